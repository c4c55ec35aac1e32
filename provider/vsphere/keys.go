package vsphere

// The public keys that new machines let in: those that the inventory says SSH is done with.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// authorizedKeys are the lines of authorized_keys for a node's machine. No private key is read where its public half lies beside it.
func authorizedKeys(j job, s inventory.SSH) ([]string, error) {
	var out []string
	if s.KeyFile != "" {
		line, err := publicHalf(j, s)
		if err != nil {
			return nil, permanent("the public half of the key %s: %w: write it beside, as %s.pub", s.KeyFile, err, s.KeyFile)
		}
		out = append(out, line)
	}
	if sock := j.getenv("SSH_AUTH_SOCK"); sock != "" && s.Agent != nil && *s.Agent {
		lines, err := agentKeys(sock)
		if err != nil {
			return nil, fmt.Errorf("the SSH agent at %s: %w", sock, err)
		}
		out = append(out, lines...)
	}
	if len(out) == 0 {
		return nil, permanent("there is no key to let into new machines: name ssh.keyFile in the inventory, or start an agent that has one")
	}
	return out, nil
}

func publicHalf(j job, s inventory.SSH) (string, error) {
	path := s.KeyFile
	data, err := os.ReadFile(path + ".pub")
	if err == nil {
		key, _, _, _, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			return "", fmt.Errorf("%s.pub: %w", path, err)
		}
		return line(key), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	data, err = os.ReadFile(path)
	if err != nil {
		return "", err
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) && locked.PublicKey != nil {
		return line(locked.PublicKey), nil
	}
	if errors.As(err, &locked) && s.KeyPassphrase != nil {
		phrase, err := s.KeyPassphrase.Read(j.inv.Dir)
		if err != nil {
			return "", err
		}
		if signer, err = ssh.ParsePrivateKeyWithPassphrase(data, phrase); err != nil {
			return "", err
		}
		return line(signer.PublicKey()), nil
	}
	if err != nil {
		return "", err
	}
	return line(signer.PublicKey()), nil
}

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

func agentKeys(sock string) ([]string, error) {
	conn, err := net.Dial("unix", sock)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range keys {
		out = append(out, line(k))
	}
	return out, nil
}
