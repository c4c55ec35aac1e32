package story

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"
)

// UserData lets a user in on a machine that is made by hand, with a host key whose fingerprint is known beforehand.
func UserData(name, user, authorizedKey string) (config []byte, fingerprint string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		return nil, "", err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, "", err
	}
	data, err := json.Marshal(map[string]any{ // JSON is YAML
		"hostname":       name,
		"users":          []any{map[string]any{"name": user, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": []string{authorizedKey}}},
		"ssh_deletekeys": true,
		"ssh_keys": map[string]string{
			"ed25519_private": string(pem.EncodeToMemory(block)), "ed25519_public": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))),
		},
	})
	return append([]byte("#cloud-config\n"), data...), ssh.FingerprintSHA256(key), err
}
