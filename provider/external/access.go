package external

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// access is what a machine must be made with: the inventory's public keys, and that of its key file; without both, those that the
// agent holds. Of the key file only the public half is looked for, beside it as .pub or in it. Where one can not be told, the
// program has the others, and may refuse to make a machine that lets in nobody.
func access(s inventory.SSH) SSH {
	out := SSH{User: s.User, AuthorizedKeys: []string{}}
	for _, k := range s.AuthorizedKeys {
		out.AuthorizedKeys = append(out.AuthorizedKeys, strings.TrimSpace(k))
	}
	switch {
	case s.KeyFile != "":
		if key := publicHalf(s.KeyFile); key != "" && !slices.Contains(out.AuthorizedKeys, key) {
			out.AuthorizedKeys = append(out.AuthorizedKeys, key)
		}
	case s.Agent != nil && *s.Agent && len(out.AuthorizedKeys) == 0:
		out.AuthorizedKeys = append(out.AuthorizedKeys, agentKeys()...)
	}
	return out
}

func agentKeys() []string {
	conn, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		return nil
	}
	defer conn.Close() //nolint:errcheck // it was only asked
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return nil
	}
	var out []string
	for _, k := range keys {
		out = append(out, line(k))
	}
	return out
}

func publicHalf(path string) string {
	if data, err := os.ReadFile(path + ".pub"); err == nil {
		key, _, _, _, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			return ""
		}
		return line(key)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return line(signer.PublicKey())
	case errors.As(err, &locked) && locked.PublicKey != nil:
		return line(locked.PublicKey)
	}
	return ""
}

func line(key ssh.PublicKey) string { return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key))) }
