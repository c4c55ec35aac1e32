package remote

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// clientConfig gathers keys and the host key check. The returned lists of host key algorithms are to be tried in turn,
// because a machine shows only one of its keys at a time; the returned function ends the connection to the agent.
func (h *Host) clientConfig() (*ssh.ClientConfig, [][]string, func(), error) {
	var signers []ssh.Signer
	for _, f := range h.t.KeyFiles {
		s, err := h.jumps.keys.open(h, f)
		if err != nil {
			return nil, nil, nil, err
		}
		signers = append(signers, s)
	}
	done := func() {}
	if sock := os.Getenv("SSH_AUTH_SOCK"); h.t.Agent && sock != "" {
		conn, err := net.Dial("unix", sock)
		if err != nil {
			return nil, nil, nil, h.fail("authenticate", Permanent, "start an agent or name a keyFile", fmt.Errorf("agent %s: %w", sock, err))
		}
		done = func() { _ = conn.Close() }
		fromAgent, err := agent.NewClient(conn).Signers()
		if err != nil {
			done()
			return nil, nil, nil, h.fail("authenticate", Permanent, "", fmt.Errorf("agent %s: %w", sock, err))
		}
		signers = append(signers, fromAgent...)
	}
	if len(signers) == 0 {
		done()
		return nil, nil, nil, h.fail("authenticate", Permanent, "name ssh.keyFile in the inventory or start an agent", errors.New("there is no key to sign in with"))
	}
	check, algorithms, err := h.hostKeyCheck()
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return &ssh.ClientConfig{
		User: h.t.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: check,
		BannerCallback:  func(string) error { return nil },
	}, algorithms, done, nil
}

// hostKeyError is what the check says; it passes unchanged through the handshake's error.
type hostKeyError struct{ cause *Error }

func (e hostKeyError) Error() string { return e.cause.Error() }
func (e hostKeyError) Unwrap() error { return e.cause }

// hostKeyCheck verifies against pins, else against known_hosts files, and says which algorithms to ask for, so that a
// host with several keys shows the one that is known.
func (h *Host) hostKeyCheck() (ssh.HostKeyCallback, [][]string, error) {
	if len(h.t.HostKeys) > 0 {
		pins, algorithms, err := parsePins(h.t.HostKeys)
		if err != nil {
			return nil, nil, h.fail("host key", Permanent, "", err)
		}
		return func(_ string, _ net.Addr, key ssh.PublicKey) error {
			for _, p := range pins {
				if p == ssh.FingerprintSHA256(key) {
					return nil
				}
			}
			return hostKeyError{h.fail("host key", Permanent,
				"if the machine was reinstalled, check it and pin the new key; if not, somebody is in between",
				fmt.Errorf("the pinned key is %s, the machine shows %s (%s)", strings.Join(pins, " or "), ssh.FingerprintSHA256(key), key.Type()))}
		}, algorithms, nil
	}
	db := func(string, net.Addr, ssh.PublicKey) error { return &knownhosts.KeyError{} }
	if len(h.t.KnownHosts) > 0 {
		check, err := knownhosts.New(h.t.KnownHosts...)
		if err != nil {
			return nil, nil, h.fail("host key", Permanent, "", err)
		}
		db = check
	}
	return func(addr string, remote net.Addr, key ssh.PublicKey) error {
		err := db(addr, remote, key)
		var ke *knownhosts.KeyError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &ke) && len(ke.Want) == 0:
			return hostKeyError{h.fail("host key", Permanent, "compare it with the machine's console and run `catamaran trust`",
				fmt.Errorf("the key is not known; the machine shows %s (%s)", ssh.FingerprintSHA256(key), key.Type()))}
		case errors.As(err, &ke):
			var want []string
			for _, w := range ke.Want {
				want = append(want, ssh.FingerprintSHA256(w.Key)+" ("+w.Key.Type()+")")
			}
			sort.Strings(want)
			return hostKeyError{h.fail("host key", Permanent,
				"if the machine was reinstalled, remove its line and run `catamaran trust`; if not, somebody is in between",
				fmt.Errorf("%s knows %s, the machine shows %s (%s)", ke.Want[0].Filename, strings.Join(want, " or "), ssh.FingerprintSHA256(key), key.Type()))}
		}
		return hostKeyError{h.fail("host key", Permanent, "", err)}
	}, [][]string{h.knownAlgorithms(db)}, nil
}

// knownAlgorithms asks the database which key types it has, by showing it a key that can not match. nil: any.
func (h *Host) knownAlgorithms(db ssh.HostKeyCallback) []string {
	err := db(joined(h.t.Address, h.t.Port), &net.TCPAddr{IP: net.IPv4zero}, noKey{})
	var ke *knownhosts.KeyError
	if !errors.As(err, &ke) {
		return nil
	}
	types := map[string]bool{}
	for _, w := range ke.Want {
		types[w.Key.Type()] = true
	}
	var out []string
	for _, family := range familiesOf(types) {
		out = append(out, family...)
	}
	return out
}

// familiesOf are the key families narrowed to types.
func familiesOf(types map[string]bool) [][]string {
	var out [][]string
	for _, family := range keyFamilies() {
		var some []string
		for _, a := range family {
			if types[keyTypeOf(a)] {
				some = append(some, a)
			}
		}
		if some != nil {
			out = append(out, some)
		}
	}
	return out
}

// keyFamilies are the host key algorithms to ask for, the best first: one handshake each shows every key a machine has.
func keyFamilies() [][]string {
	return [][]string{
		{ssh.KeyAlgoED25519},
		{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
		{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
	}
}

// keyTypeOf is the type of the key that an algorithm signs with.
func keyTypeOf(algorithm string) string {
	if algorithm == ssh.KeyAlgoRSASHA512 || algorithm == ssh.KeyAlgoRSASHA256 {
		return ssh.KeyAlgoRSA
	}
	return algorithm
}

// noKey is a public key that equals no other.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }

// parsePins turns pins into fingerprints; public keys also say which algorithms to ask for.
func parsePins(pins []string) (fingerprints []string, algorithms [][]string, err error) {
	types := map[string]bool{}
	typed := true
	for _, p := range pins {
		if rest, ok := strings.CutPrefix(p, "SHA256:"); ok {
			if raw, err := base64.RawStdEncoding.DecodeString(rest); err != nil || len(raw) != sha256.Size {
				return nil, nil, fmt.Errorf("%q is not a SHA256 fingerprint", p)
			}
			fingerprints, typed = append(fingerprints, p), false
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimSpace([]byte(p)))
		if err != nil {
			return nil, nil, fmt.Errorf("%q is neither a SHA256: fingerprint nor a public key", p)
		}
		fingerprints = append(fingerprints, ssh.FingerprintSHA256(key))
		types[key.Type()] = true
	}
	if !typed {
		return fingerprints, keyFamilies(), nil // a fingerprint does not say its key's type
	}
	algorithms = familiesOf(types)
	if algorithms == nil {
		return nil, nil, fmt.Errorf("no pin is of a type that is supported: %s", strings.Join(pins, ", "))
	}
	return fingerprints, algorithms, nil
}

// classifyHandshake tells a refused key from a lost link.
func (h *Host) classifyHandshake(err error) error {
	var hk hostKeyError
	if errors.As(err, &hk) {
		return hk.cause
	}
	var differ *ssh.AlgorithmNegotiationError
	msg := err.Error()
	switch {
	case errors.As(err, &differ) && differ.What == "host key":
		return h.fail("host key type", Permanent, "pin a key that the machine has", err)
	case errors.As(err, &differ):
		return h.fail("handshake", Permanent, "let its sshd_config allow current algorithms", err)
	case strings.Contains(msg, "unable to authenticate"):
		return h.fail("authenticate", Permanent, fmt.Sprintf("is the public key in the authorized_keys of %s?", h.t.User), err)
	case strings.Contains(msg, "Too many authentication failures"):
		return h.fail("authenticate", Permanent, "the agent holds more keys than sshd tries: name ssh.keyFile", err)
	}
	return h.fail("handshake", Passing, "", err)
}
