package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// KnownKeys are the keys that known_hosts files have of a machine. Files that are missing have none.
func KnownKeys(files []string, address string, port int) ([]HostKey, error) {
	var out []HostKey
	for _, f := range files {
		check, err := knownhosts.New(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		var ke *knownhosts.KeyError
		if err := check(joined(address, port), &net.TCPAddr{IP: net.IPv4zero}, noKey{}); errors.As(err, &ke) {
			for _, w := range ke.Want {
				out = append(out, HostKey{Type: w.Key.Type(), Fingerprint: ssh.FingerprintSHA256(w.Key), Key: w.Key})
			}
		}
	}
	return out, nil
}
