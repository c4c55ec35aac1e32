package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// HostKey is one key that a machine showed.
type HostKey struct {
	Type        string
	Fingerprint string
	Key         ssh.PublicKey
}

// errScanned ends a handshake as soon as the key was seen: nobody signs in.
var errScanned = errors.New("scanned")

// ScanHostKeys asks a machine for its host keys, one handshake a key type, without signing in. Jump hosts on the way
// are verified as always. What is returned is what the network said: somebody must compare it.
func ScanHostKeys(ctx context.Context, t Target, jumps *Jumps) ([]HostKey, error) {
	h := New(t, WithJumps(jumps))
	var keys []HostKey
	var last error
	for _, algorithms := range keyFamilies() {
		seen := false
		_, err := h.handshake(ctx, &ssh.ClientConfig{
			User: t.User, HostKeyAlgorithms: algorithms,
			HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
				keys, seen = append(keys, HostKey{Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), Key: key}), true
				return errScanned
			},
		})
		var e *Error
		if !seen && (!errors.As(err, &e) || e.Host != h.label() || e.Op != "host key type") {
			return nil, err
		}
		last = err
	}
	if len(keys) == 0 {
		return nil, last
	}
	return keys, nil
}

// IsKnown says whether one of the known_hosts files has a key of a machine. Files that are missing have none.
func IsKnown(files []string, address string, port int) (bool, error) {
	for _, f := range files {
		check, err := knownhosts.New(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", f, err)
		}
		var ke *knownhosts.KeyError
		if err := check(joined(address, port), &net.TCPAddr{IP: net.IPv4zero}, noKey{}); errors.As(err, &ke) && len(ke.Want) > 0 {
			return true, nil
		}
	}
	return false, nil
}

func joined(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

// Pin adds keys of a machine to a known_hosts file, which is made if missing. A machine that the file knows already must
// show a key that the file has, and no other key of the same type: else its lines must be removed by hand first.
func Pin(file, address string, port int, keys []HostKey) error {
	addr := joined(address, port)
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if keys, err = unknown(file, addr, keys); err != nil {
			return err
		}
	}
	b := bytes.NewBuffer(old)
	if len(old) > 0 && old[len(old)-1] != '\n' {
		b.WriteByte('\n')
	}
	for _, k := range keys {
		b.WriteString(knownhosts.Line([]string{knownhosts.Normalize(addr)}, k.Key) + "\n")
	}
	return writeFile(file, b.Bytes())
}

// unknown are the keys that the file does not have yet.
func unknown(file, addr string, keys []HostKey) ([]HostKey, error) {
	check, err := knownhosts.New(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var fresh []HostKey
	var other *knownhosts.KnownKey
	for _, k := range keys {
		err := check(addr, &net.TCPAddr{IP: net.IPv4zero}, k.Key)
		var ke *knownhosts.KeyError
		switch {
		case err == nil:
			continue
		case !errors.As(err, &ke):
			return nil, fmt.Errorf("%s: %s (%s): %w", file, addr, k.Fingerprint, err)
		}
		for _, w := range ke.Want {
			other = &w
			if w.Key.Type() == k.Type {
				return nil, fmt.Errorf("%s line %d knows another %s key for %s (%s) than the machine shows (%s): remove the line if the machine was reinstalled",
					file, w.Line, k.Type, addr, ssh.FingerprintSHA256(w.Key), k.Fingerprint)
			}
		}
		fresh = append(fresh, k)
	}
	if other != nil && len(fresh) == len(keys) {
		return nil, fmt.Errorf("%s line %d knows the key %s for %s, and the machine does not show it: remove the line if the machine was reinstalled",
			file, other.Line, ssh.FingerprintSHA256(other.Key), addr)
	}
	return fresh, nil
}

// writeFile writes beside, fsyncs and renames.
func writeFile(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".known_hosts-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.Rename(f.Name(), file)
}
