package remote

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// keyring remembers opened key files: opening an encrypted one takes a tenth of a second of CPU by design, and 200
// machines share it.
type keyring struct {
	mu     sync.Mutex
	opened map[openedKey]openResult
}

// openedKey is a key file's content together with the passphrase that was tried on it, as digests.
type openedKey struct{ content, phrase [sha256.Size]byte }

type openResult struct {
	signer ssh.Signer
	err    error
}

func newKeyring() *keyring { return &keyring{opened: map[openedKey]openResult{}} }

// open reads a private key file for h.
func (k *keyring) open(h *Host, file string) (ssh.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, h.fail("authenticate", Permanent, "", err)
	}
	s, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) {
		if err != nil {
			return nil, h.fail("authenticate", Permanent, "", fmt.Errorf("key file %s: %w", file, err))
		}
		return s, nil
	}
	if h.t.Passphrase == nil {
		return nil, h.fail("authenticate", Permanent, "give ssh.keyPassphrase or use an agent", fmt.Errorf("key file %s is encrypted", file))
	}
	phrase, err := h.t.Passphrase()
	if err != nil {
		return nil, h.fail("authenticate", Permanent, "", fmt.Errorf("the passphrase of key file %s: %w", file, err))
	}
	s, err = k.decrypt(data, phrase)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, h.fail("authenticate", Permanent, "is ssh.keyPassphrase right?", fmt.Errorf("the passphrase does not open key file %s", file))
	}
	if err != nil {
		return nil, h.fail("authenticate", Permanent, "", fmt.Errorf("key file %s: %w", file, err))
	}
	return s, nil
}

func (k *keyring) decrypt(data, phrase []byte) (ssh.Signer, error) {
	id := openedKey{sha256.Sum256(data), sha256.Sum256(phrase)}
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.opened[id]
	if !ok {
		r.signer, r.err = ssh.ParsePrivateKeyWithPassphrase(data, phrase)
		k.opened[id] = r
	}
	return r.signer, r.err
}
