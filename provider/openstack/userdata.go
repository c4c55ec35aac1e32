package openstack

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// hostKey is the SSH host key of a machine, made before the machine is, so that even the first connection is verified. The private
// half is in the user data only; the public one is in the server's metadata, where every later run finds it.
type hostKey struct{ public, private string }

func newHostKey(comment string) (hostKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return hostKey{}, err
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return hostKey{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return hostKey{}, err
	}
	return hostKey{
		public:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))),
		private: string(pem.EncodeToMemory(block)),
	}, nil
}

// cloudConfig is what cloud-init reads.
type cloudConfig struct {
	Hostname         string            `yaml:"hostname"`
	FQDN             string            `yaml:"fqdn,omitempty"`
	PreserveHostname bool              `yaml:"preserve_hostname"`
	DisableRoot      bool              `yaml:"disable_root"`
	SSHPasswordAuth  bool              `yaml:"ssh_pwauth"`
	Users            []user            `yaml:"users"`
	DeleteKeys       bool              `yaml:"ssh_deletekeys"`
	GenerateKeys     []string          `yaml:"ssh_genkeytypes"`
	Keys             map[string]string `yaml:"ssh_keys"`
}

type user struct {
	Name           string   `yaml:"name"`
	Sudo           string   `yaml:"sudo,omitempty"`
	Shell          string   `yaml:"shell,omitempty"`
	LockPassword   bool     `yaml:"lock_passwd"`
	AuthorizedKeys []string `yaml:"ssh_authorized_keys"`
}

// userData lets the login user in by key, with sudo, and gives the machine its name and its one host key.
func userData(node, login string, keys []string, key hostKey) ([]byte, error) {
	host, _, dotted := strings.Cut(node, ".")
	c := cloudConfig{
		Hostname: host, DisableRoot: login != "root",
		Users:      []user{{Name: login, LockPassword: true, AuthorizedKeys: keys}},
		DeleteKeys: true, GenerateKeys: []string{},
		Keys: map[string]string{"ed25519_private": key.private, "ed25519_public": key.public},
	}
	if dotted {
		c.Hostname, c.FQDN = node, node // the node's name in Kubernetes is the whole one
	}
	if login != "root" {
		c.Users[0].Sudo, c.Users[0].Shell = "ALL=(ALL) NOPASSWD:ALL", "/bin/bash"
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return nil, err
	}
	return append([]byte("#cloud-config\n"), text...), nil
}

// authorizedKeys are the public keys that a new machine lets in: those that the inventory lists, and that of its key file or the agent's.
func (j *job) authorizedKeys(n *inventory.Node) ([]string, error) {
	s := j.request.Inventory.SSHFor(j.request.Cluster, n)
	out := slices.Clone(s.AuthorizedKeys)
	switch {
	case s.KeyFile != "":
		line, err := publicKey(s.KeyFile, s.KeyPassphrase, j.request.Inventory.Dir)
		if err != nil {
			return nil, permanent("openstack: %s: read the public key of ssh.keyFile: %v", n.Name, err)
		}
		out = append(out, line)
	case s.Agent != nil && *s.Agent && len(out) == 0:
		lines, err := agentKeys()
		if err != nil {
			return nil, permanent("openstack: %s: ask the SSH agent for its keys: %v", n.Name, err)
		}
		out = append(out, lines...)
	}
	if len(out) == 0 {
		return nil, permanent("openstack: %s: nobody could sign in to it: name ssh.keyFile or ssh.authorizedKeys, or load a key into the SSH agent", n.Name)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// publicKey is the public half of a key file: what lies beside it as .pub, or else what is in it.
func publicKey(path string, passphrase *inventory.Secret, dir string) (string, error) {
	if data, err := os.ReadFile(path + ".pub"); err == nil {
		return oneKey(data)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if locked, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		if locked.PublicKey != nil {
			return oneKey(ssh.MarshalAuthorizedKey(locked.PublicKey))
		}
		if passphrase == nil {
			return "", fmt.Errorf("%s is locked by a passphrase, and there is no %s.pub beside it", path, path)
		}
		secret, serr := passphrase.Read(dir)
		if serr != nil {
			return "", serr
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(data, secret)
	}
	if err != nil {
		return "", fmt.Errorf("%s holds no private key that can be read, and there is no %s.pub beside it", path, path)
	}
	return oneKey(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

func oneKey(data []byte) (string, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return "", errors.New("it is no public key in authorized_keys format")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

func agentKeys() ([]string, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, errors.New("SSH_AUTH_SOCK is not set")
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // it was only read from
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range keys {
		out = append(out, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))))
	}
	return out, nil
}
