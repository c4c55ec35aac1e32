package external

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// A program's output is read strictly: a field that is misspelt would else be one that is not there, and a machine of which
// nobody knows be made twice.

const expected = `expected one of {"change": {...}}, {"log": "..."}, {"result": {...}} and {"error": {...}}`

// decode reads one line.
func decode(raw []byte) (Line, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return Line{}, errors.New("it is empty; " + expected)
	}
	if !utf8.Valid(raw) {
		return Line{}, errors.New("it is not UTF-8")
	}
	var l Line
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Line{}, fmt.Errorf("%w; %s", err, expected)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Line{}, errors.New("something follows the object; each line is one")
	}
	set := 0
	for _, is := range []bool{l.Change != nil, l.Log != nil, l.Result != nil, l.Error != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Line{}, fmt.Errorf("it says %d things; %s", set, expected)
	}
	return l, nil
}

// excerpt is the beginning of a line, for an error.
func excerpt(raw []byte) string {
	const most = 160
	s := strings.ToValidUTF8(string(raw), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// sound says what a change lacks.
func sound(c provider.Change) error {
	switch c.Verb {
	case provider.Create, provider.Adopt, provider.Update, provider.Delete:
	default:
		return fmt.Errorf("a change's verb is %q, expected create, adopt, update or delete", c.Verb)
	}
	if c.Kind == "" || c.Name == "" || c.Reason == "" {
		return errors.New("a change needs a kind, a name and a reason")
	}
	return nil
}

// changes are a result's, never nil.
func (c *call) changes(r *Result) ([]provider.Change, error) {
	for _, change := range r.Changes {
		if err := sound(change); err != nil {
			return nil, c.broken("the result: %w", err)
		}
	}
	return append([]provider.Change{}, r.Changes...), nil
}

// machines are the inventory's, in its order. All of present nodes must be there where whole.
func (c *call) machines(said []Machine, whole bool) ([]provider.Machine, error) {
	by := map[string]Machine{}
	for _, m := range said {
		if _, twice := by[m.Name]; twice {
			return nil, c.broken("the result: machine %q is there twice", m.Name)
		}
		by[m.Name] = m
	}
	out := []provider.Machine{}
	for _, n := range c.nodes {
		m, ok := by[n.Name]
		delete(by, n.Name)
		switch {
		case !ok && whole && n.State != inventory.Absent:
			return nil, c.broken("the result: machine %q is missing", n.Name)
		case !ok:
			continue
		}
		if m.Role != "" && m.Role != n.Role {
			return nil, c.broken("the result: machine %q is a %s, in the inventory a %s", n.Name, m.Role, n.Role)
		}
		if n.Address != "" && m.Address != n.Address {
			return nil, c.broken("the result: machine %q has the address %q, the inventory asks for %s", n.Name, m.Address, n.Address)
		}
		if n.HostKey != "" && m.HostKey != "" && m.HostKey != n.HostKey {
			return nil, c.broken("the result: machine %q has the host key %q, the inventory pins %s", n.Name, m.HostKey, n.HostKey)
		}
		made, err := c.machine(m, true)
		if err != nil {
			return nil, err
		}
		made.Role, made.HostKey = n.Role, cmp.Or(n.HostKey, m.HostKey)
		out = append(out, made)
	}
	for name := range by {
		return nil, c.broken("the result: there is no node %q in the inventory; what is too much belongs into surplus", name)
	}
	return out, nil
}

// surplus are machines that the inventory does not have, sorted by name; nil: none.
func (c *call) surplus(said []Machine) ([]provider.Machine, error) {
	var out []provider.Machine
	for _, m := range said {
		if slices.ContainsFunc(c.nodes, func(n inventory.Node) bool { return n.Name == m.Name }) {
			return nil, c.broken("the result: machine %q is surplus, and in the inventory", m.Name)
		}
		if slices.ContainsFunc(out, func(o provider.Machine) bool { return o.Name == m.Name }) {
			return nil, c.broken("the result: machine %q is surplus twice", m.Name)
		}
		if m.Adopted {
			return nil, c.broken("the result: machine %q is surplus and adopted: what somebody else made is never surplus", m.Name)
		}
		if m.Role != inventory.ControlPlane && m.Role != inventory.Worker {
			return nil, c.broken("the result: surplus machine %q has the role %q, expected control-plane or worker", m.Name, m.Role)
		}
		made, err := c.machine(m, false)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	slices.SortFunc(out, func(a, b provider.Machine) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// machine checks what is said of one.
func (c *call) machine(m Machine, addressed bool) (provider.Machine, error) {
	if m.Name == "" {
		return provider.Machine{}, c.broken("the result: a machine has no name")
	}
	for what, address := range map[string]string{"address": m.Address, "sshAddress": m.SSHAddress} {
		if address == "" && (what == "sshAddress" || !addressed) {
			continue
		}
		if _, err := netip.ParseAddr(address); err != nil {
			return provider.Machine{}, c.broken("the result: machine %q: its %s %q is no IP address", m.Name, what, address)
		}
	}
	if m.HostKey != "" && !strings.HasPrefix(m.HostKey, "SHA256:") {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.HostKey)); err != nil {
			return provider.Machine{}, c.broken("the result: machine %q: its hostKey is neither \"SHA256:...\" nor a public key", m.Name)
		}
	}
	return provider.Machine{
		Cluster: c.request.Cluster, Name: m.Name, Role: m.Role, Address: m.Address, SSHAddress: m.SSHAddress, HostKey: m.HostKey, Adopted: m.Adopted,
	}, nil
}
