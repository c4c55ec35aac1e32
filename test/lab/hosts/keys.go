package hosts

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ensureKey makes an SSH key pair, PATH and PATH.pub, unless it is there.
func ensureKey(path, comment string) error {
	if _, err := os.Stat(path + ".pub"); err == nil {
		return nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	if err := writeFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	// the public half last: it says that the pair is complete
	return writeFile(path+".pub", []byte(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))+" "+comment+"\n"), 0o644)
}

// publicKey reads a .pub file.
func publicKey(path string) (ssh.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// identity is what makes a host that host and survives a reset, as if the machine were installed again with its old keys:
// identity/machine-id and identity/ssh_host_ed25519_key.
func (l *Lab) ensureIdentity(host string) error {
	dir := l.hostDir(host, "identity")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	id := filepath.Join(dir, "machine-id")
	if _, err := os.Stat(id); errors.Is(err, fs.ErrNotExist) {
		var b [16]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		if err := writeFile(id, []byte(hex.EncodeToString(b[:])+"\n"), 0o444); err != nil {
			return err
		}
	}
	return ensureKey(filepath.Join(dir, "ssh_host_ed25519_key"), "root@"+host)
}

// HostKey is the host's SSH host key, known before it boots.
func (l *Lab) HostKey(host string) (ssh.PublicKey, error) {
	return publicKey(l.hostDir(host, "identity", "ssh_host_ed25519_key.pub"))
}

// writeKnownHosts lists all hosts' keys.
func (l *Lab) writeKnownHosts() error {
	var b strings.Builder
	for _, h := range l.state.Hosts {
		key, err := l.HostKey(h.Name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s,%s %s", h.Name, h.Address, ssh.MarshalAuthorizedKey(key))
	}
	return writeFile(l.KnownHosts(), []byte(b.String()), 0o644)
}
