package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"filippo.io/age"
)

// Vault is the site's secrets, in one age-encrypted file.
type Vault struct {
	path       string
	identity   *age.X25519Identity
	recipients []string

	mu  sync.Mutex
	doc document
}

type document struct {
	Version  int                       `json:"version"`
	Site     string                    `json:"site"`
	Clusters map[string]ClusterSecrets `json:"clusters"`
	Platform *PlatformSecrets          `json:"platform,omitempty"`
}

// A vault says the oldest version that has all it holds, so that a program which does not know a part refuses the vault
// instead of saving it without that part.
const (
	oldestVersion = 1
	vaultVersion  = 2 // with a platform
)

// Create begins a vault, and the identity that opens it where that file is missing. Nothing is written to the vault's
// path before Save.
func Create(path, identityFile, site string, recipients []string) (*Vault, error) {
	if _, err := parseRecipients(recipients); err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("vault %s exists already", path)
	}
	id, err := readIdentity(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		id, err = newIdentity(identityFile)
	}
	if err != nil {
		return nil, err
	}
	return &Vault{path: path, identity: id, recipients: recipients, doc: document{
		Version: oldestVersion, Site: site, Clusters: map[string]ClusterSecrets{},
	}}, nil
}

// Open decrypts a vault. recipients are for the next Save.
func Open(path, identityFile string, recipients []string) (*Vault, error) {
	if _, err := parseRecipients(recipients); err != nil {
		return nil, err // now, not when new secrets wait to be saved
	}
	id, err := readIdentity(identityFile)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	plain, err := age.Decrypt(f, id)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		return nil, fmt.Errorf("vault %s was not encrypted for the identity in %s: name the right one in vault.identityFile", path, identityFile)
	}
	if err != nil {
		return nil, fmt.Errorf("vault %s is damaged: %w; restore it from its backup", path, err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		return nil, fmt.Errorf("vault %s is damaged: %w; restore it from its backup", path, err)
	}
	v := &Vault{path: path, identity: id, recipients: recipients}
	if err := json.Unmarshal(data, &v.doc); err != nil {
		return nil, fmt.Errorf("vault %s: %w", path, err)
	}
	if v.doc.Version < oldestVersion || v.doc.Version > vaultVersion {
		return nil, fmt.Errorf("vault %s has version %d, this program reads %d to %d", path, v.doc.Version, oldestVersion, vaultVersion)
	}
	if v.doc.Clusters == nil {
		v.doc.Clusters = map[string]ClusterSecrets{}
	}
	return v, nil
}

// Cluster returns a cluster's secrets.
func (v *Vault) Cluster(name string) (ClusterSecrets, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.doc.Clusters[name]
	return s, ok
}

// SetCluster stores a cluster's secrets; Save writes them.
func (v *Vault) SetCluster(name string, s ClusterSecrets) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doc.Clusters[name] = s
}

// Platform returns the secrets of the compliance platform.
func (v *Vault) Platform() (PlatformSecrets, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.doc.Platform == nil {
		return PlatformSecrets{}, false
	}
	return v.doc.Platform.clone(), true
}

// SetPlatform stores the secrets of the compliance platform; Save writes them.
func (v *Vault) SetPlatform(s PlatformSecrets) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s = s.clone()
	v.doc.Platform, v.doc.Version = &s, vaultVersion
}

// Save encrypts the vault for its identity and the further recipients, and replaces the file as a whole.
func (v *Vault) Save() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	to, err := parseRecipients(v.recipients)
	if err != nil {
		return err
	}
	to = append(to, v.identity.Recipient())
	data, err := json.Marshal(v.doc)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return WriteFile(v.path, b.Bytes(), 0o600)
}

func parseRecipients(list []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, r := range list {
		rec, err := age.ParseX25519Recipient(r)
		if err != nil {
			return nil, fmt.Errorf("vault.recipients: %q is not an age public key (age1...)", r)
		}
		out = append(out, rec)
	}
	return out, nil
}

func readIdentity(file string) (*age.X25519Identity, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("identity %s can be read by others (mode %04o): chmod 600 it", file, st.Mode().Perm())
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	ids, err := age.ParseIdentities(f)
	if err != nil {
		// the parser's error may quote the line, which is the secret
		return nil, fmt.Errorf("identity %s is not an age identity", file)
	}
	id, ok := ids[0].(*age.X25519Identity)
	if !ok {
		return nil, fmt.Errorf("identity %s: only X25519 identities are supported", file)
	}
	return id, nil
}

func newIdentity(file string) (*age.X25519Identity, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	text := "# opens the vault of a catamaran site; keep a copy in a safe place\n# public key: " + id.Recipient().String() + "\n" + id.String() + "\n"
	return id, WriteFile(file, []byte(text), 0o600)
}

// WriteFile writes beside, fsyncs and renames, so that the path holds either the old content or the whole new one.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
