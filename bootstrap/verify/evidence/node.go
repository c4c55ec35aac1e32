package evidence

import (
	"bytes"
	"context"
	_ "embed" // the script
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

//go:embed node.sh
var nodeScript string

// Machine is the part of remote.Runner that is needed.
type Machine interface {
	Run(ctx context.Context, c remote.Command) (remote.Result, error)
}

// connector dials before the clock is compared.
type connector interface {
	Connect(ctx context.Context) error
}

// readNode runs the script on a machine and fills in what it says.
func readNode(ctx context.Context, m Machine, n *Node) {
	if c, ok := m.(connector); ok {
		if err := c.Connect(ctx); err != nil {
			n.Error = err.Error()
			return
		}
	}
	out := &stamped{}
	begin := time.Now()
	if _, err := m.Run(ctx, remote.Command{Script: nodeScript, Root: true, Stdout: out}); err != nil {
		n.Error = err.Error()
		return
	}
	if err := n.parse(out.buffer.Bytes(), begin, out.first); err != nil {
		*n = Node{Name: n.Name, Role: n.Role, Address: n.Address, Error: err.Error(), AuditLogAge: -1}
	}
}

// stamped notes when the first byte came: the script prints its clock first.
type stamped struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	first  time.Time
}

func (s *stamped) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = time.Now()
	}
	return s.buffer.Write(p)
}

// parse reads what the script printed. The clock was read between begin and first.
func (n *Node) parse(out []byte, begin, first time.Time) error {
	p := &nodeParser{n: n, kinds: map[string]string{}, parents: map[string][]string{}}
	n.Versions, n.SSHD, n.AuditLogAge = map[string]string{}, map[string]string{}, -1
	whole := false
	for raw := range bytes.Lines(out) {
		f := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\t")
		if f[0] == "end" {
			whole = true
			continue
		}
		read, ok := lines()[f[0]]
		if !ok || len(f)-1 < read.fields {
			return fmt.Errorf("the evidence script says %q, which is not understood", f[0])
		}
		if err := read.by(p, f[1:]); err != nil {
			return fmt.Errorf("the evidence script: %s: %w", f[0], err)
		}
	}
	if !whole || p.clock.IsZero() {
		return errors.New("the evidence script was cut off")
	}
	window := first.Sub(begin)
	n.Skew = ms(p.clock.Sub(begin.Add(window / 2)))
	n.SkewError = ms(window / 2)
	if p.auditWritten != 0 {
		// the clock is read first: what was written since is no second old
		n.AuditLogAge = max(0, p.clock.Sub(time.Unix(p.auditWritten, 0)).Seconds())
	}
	for i, d := range n.Disks {
		n.Disks[i].Encrypted = p.encrypted(d.Device)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

type nodeParser struct {
	n            *Node
	clock        time.Time
	auditWritten int64
	kinds        map[string]string   // block device to lsblk's type
	parents      map[string][]string // block device to those it is made of
}

// reading is how one kind of line is read.
type reading struct {
	fields int
	by     func(p *nodeParser, f []string) error
}

// lines are the kinds of lines of node.sh.
func lines() map[string]reading {
	text := func(to func(*Node) *string) reading {
		return reading{1, func(p *nodeParser, f []string) error { *to(p.n) = f[0]; return nil }}
	}
	return map[string]reading{
		"clock": {1, func(p *nodeParser, f []string) (err error) { p.clock, err = unixTime(f[0]); return err }},
		"os":    text(func(n *Node) *string { return &n.OS }), "kernel": text(func(n *Node) *string { return &n.Kernel }),
		"arch": text(func(n *Node) *string { return &n.Arch }), "swap": text(func(n *Node) *string { return &n.Swap }),
		"timeService":        text(func(n *Node) *string { return &n.TimeService }),
		"auditPolicy":        text(func(n *Node) *string { return &n.AuditPolicy }),
		"encryption":         text(func(n *Node) *string { return &n.Encryption }),
		"version":            {2, func(p *nodeParser, f []string) error { p.n.Versions[f[0]] = versionOf(f[1]); return nil }},
		"hostKey":            {1, hostKey},
		"authorizedKey":      {3, authorizedKey},
		"authorizedKeysFile": {1, func(*nodeParser, []string) error { return nil }},
		"sshd":               {2, func(p *nodeParser, f []string) error { p.n.SSHD[f[0]] = f[1]; return nil }},
		"controlPlane": {1, func(p *nodeParser, _ []string) error {
			p.n.ControlPlane, p.n.Flags = true, map[string]string{}
			return nil
		}},
		"flag": {2, func(p *nodeParser, f []string) error { p.n.Flags[f[0]] = f[1]; return nil }},
		"auditLog": {2, func(p *nodeParser, f []string) (err error) {
			written, _, _ := strings.Cut(f[0], " ")
			p.auditWritten, err = strconv.ParseInt(written, 10, 64)
			return err
		}},
		"certificate": {2, func(p *nodeParser, f []string) error {
			text, err := base64.StdEncoding.DecodeString(f[1])
			p.n.certificates = append(p.n.certificates, certificates(p.n.Name+": "+f[0], text)...)
			return err
		}},
		"block": {3, func(p *nodeParser, f []string) error {
			p.kinds[f[0]] = f[1]
			if f[2] != "" {
				p.parents[f[0]] = append(p.parents[f[0]], f[2])
			}
			return nil
		}},
		"mount": {2, func(p *nodeParser, f []string) error {
			p.n.Disks = append(p.n.Disks, Disk{Mount: f[0], Device: f[1]})
			return nil
		}},
		"timeSource": {2, func(p *nodeParser, f []string) error {
			p.n.TimeSources = append(p.n.TimeSources, TimeSource{f[0], f[1]})
			return nil
		}},
		"synchronised": {1, func(p *nodeParser, f []string) error { p.n.Synced = f[0] == "yes"; return nil }},
		"unsure":       {2, func(p *nodeParser, f []string) error { p.n.Unsure = append(p.n.Unsure, f[0]+": "+f[1]); return nil }},
	}
}

// unixTime reads seconds with a fraction.
func unixTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	ns, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(sec, ns), err
}

// versionOf finds the version in what a program says of itself: "Kubernetes v1.37.2", "containerd github.com/... v2.4.2 HASH".
func versionOf(line string) string {
	for _, w := range strings.Fields(line) {
		v := strings.TrimPrefix(w, "v")
		if v != "" && v[0] >= '0' && v[0] <= '9' && strings.Contains(v, ".") {
			return v
		}
	}
	return line
}

func hostKey(p *nodeParser, f []string) error {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(f[0]))
	if err != nil {
		p.n.Unsure = append(p.n.Unsure, fmt.Sprintf("host keys: a public key of sshd is none: %v", err))
		return nil
	}
	p.n.HostKeys = append(p.n.HostKeys, HostKey{Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key)})
	return nil
}

// authorizedKey reads a line of an authorized_keys file. One that sshd could not read either is shown as it is not: by its
// length.
func authorizedKey(p *nodeParser, f []string) error {
	a := AuthorizedKey{User: f[0], File: f[1]}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(f[2]))
	if err != nil {
		a.Type, a.Comment = "unreadable", fmt.Sprintf("a line of %d bytes", len(f[2]))
	} else {
		a.Type, a.Fingerprint, a.Comment, a.Options = key.Type(), ssh.FingerprintSHA256(key), comment, strings.Join(options, ",")
	}
	p.n.AuthorizedKeys = append(p.n.AuthorizedKeys, a)
	return nil
}

// encrypted follows a device down to what it is made of: dm-crypt anywhere on the way to every disk is encryption.
func (p *nodeParser) encrypted(device string) string {
	kind, ok := p.kinds[device]
	switch {
	case !ok:
		return unknown
	case kind == "crypt":
		return yes
	case len(p.parents[device]) == 0:
		return no
	}
	all := yes
	for _, parent := range p.parents[device] {
		if got := p.encrypted(parent); got != yes {
			all = got
		}
	}
	return all
}

// What is known of a disk.
const (
	yes     = "yes"
	no      = "no"
	unknown = "unknown"
)

// pinned gives the fingerprint of what an inventory pins: a fingerprint or a public key.
func pinned(pin string) string {
	if strings.HasPrefix(pin, "SHA256:") {
		return pin
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(pin))
	if err == nil {
		return ssh.FingerprintSHA256(key)
	}
	if raw, err := base64.StdEncoding.DecodeString(pin); err == nil {
		if key, err := ssh.ParsePublicKey(raw); err == nil {
			return ssh.FingerprintSHA256(key)
		}
	}
	return pin
}
