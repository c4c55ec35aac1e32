package bootstrap

import (
	"os"
	"path/filepath"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// target translates what the inventory says of SSH into what remote needs to reach one machine. knownHosts is the
// site's own file, asked when neither the machine nor the inventory pins a key.
func target(inv *inventory.Inventory, m provider.Machine, knownHosts string) remote.Target {
	node := inv.Node(m.Name)
	ssh := inv.SSHFor(m.Cluster, node)
	t := remote.Target{
		Name: m.Name, Address: sshAddress(m), Port: ssh.Port, User: ssh.User,
		Agent:          ssh.Agent != nil && *ssh.Agent,
		Passphrase:     secretReader(ssh.KeyPassphrase, inv.Dir),
		SudoPassword:   secretReader(ssh.SudoPassword, inv.Dir),
		ConnectTimeout: time.Duration(ssh.ConnectTimeout),
		KeepAlive:      time.Duration(ssh.KeepAlive),
	}
	if ssh.KeyFile != "" {
		t.KeyFiles = []string{ssh.KeyFile}
	}
	if m.HostKey != "" {
		t.HostKeys = []string{m.HostKey}
	}
	t.KnownHosts = existing(knownHosts, ssh.KnownHosts)
	for _, j := range ssh.Jump {
		jt := t
		jt.Name, jt.Address, jt.Port, jt.User, jt.HostKeys = j.Address, j.Address, j.Port, j.User, nil
		if j.KeyFile != "" {
			jt.KeyFiles = []string{j.KeyFile}
		}
		if j.HostKey != "" {
			jt.HostKeys = []string{j.HostKey}
		}
		jt.Jump, jt.SudoPassword = nil, nil
		t.Jump = append(t.Jump, jt)
	}
	return t
}

// sshAddress is where SSH reaches a machine.
func sshAddress(m provider.Machine) string {
	if m.SSHAddress != "" {
		return m.SSHAddress
	}
	return m.Address
}

// existing drops files that are not there, so that a missing known_hosts says "unknown key", not "no such file".
func existing(paths ...string) []string {
	var out []string
	for _, p := range paths {
		if p == "" {
			continue
		}
		if _, err := os.Stat(filepath.Clean(p)); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func secretReader(s *inventory.Secret, dir string) func() ([]byte, error) {
	if s == nil {
		return nil
	}
	return func() ([]byte, error) { return s.Read(dir) }
}
