// Package bootstrap turns reachable machines into healthy Kubernetes clusters: it ties machines, observation, plan and
// apply together. The parts live in the folders below; this one holds only the order in which they are called.
package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Site is one inventory with everything that is needed to look at it and change it. Close ends its connections.
type Site struct {
	// Inventory is the file's, until the machines are known; then its nodes have the addresses of their machines, those without a
	// machine are left out, and machines that are to be deleted are absent nodes.
	Inventory *inventory.Inventory
	Warnings  []inventory.Warning
	Bundle    *bundle.Bundle
	// Operator is who runs this, for the journal, the lock and client certificates.
	Operator string

	providers provider.Registry
	vault     *pki.Vault // nil until there is one
	hosts     map[string]*remote.Host
	machines  map[string]provider.Machine
	wanted    *inventory.Inventory // as the file says
	finding   sync.Mutex           // guards the first search for machines
	found     found                // what the providers said last
	dial      dialling
	jumps     *remote.Jumps
}

// Options are what the command line can say beside the inventory.
type Options struct {
	// Bundle replaces the inventory's bundle.
	Bundle    string
	Providers provider.Registry
	Operator  string
	// MachinesOnly leaves bundle and vault closed: they may be gone where machines are to be destroyed.
	MachinesOnly bool
}

// Open reads the inventory, the bundle and the vault. It reaches no machine.
func Open(path string, o Options) (*Site, error) {
	inv, warnings, err := inventory.LoadWithWarnings(path)
	if err != nil {
		return nil, err
	}
	s := &Site{
		Inventory: inv, wanted: inv, dial: defaultDialling(), Warnings: warnings, Operator: o.Operator, providers: o.Providers,
		hosts: map[string]*remote.Host{}, machines: map[string]provider.Machine{}, jumps: remote.NewJumps(),
	}
	if err := os.MkdirAll(inv.SiteDir(), 0o700); err != nil {
		return nil, fmt.Errorf("site folder: %w", err)
	}
	if o.MachinesOnly {
		return s, nil
	}
	if o.Bundle == "" {
		o.Bundle = inv.Bundle
	}
	if o.Bundle != "" {
		if s.Bundle, err = bundle.Open(o.Bundle); err != nil {
			return nil, err
		}
	}
	if err := s.openVault(); err != nil {
		return nil, err
	}
	return s, nil
}

// openVault reads the vault, where there is one.
func (s *Site) openVault() error {
	inv := s.Inventory
	if _, err := os.Stat(inv.VaultFile()); err != nil {
		return nil //nolint:nilerr // there is none yet, or opening it will say why
	}
	v, err := pki.Open(inv.VaultFile(), inv.IdentityFile(), inv.Vault.Recipients)
	if err == nil {
		s.vault = v
	}
	return err
}

// Close ends every connection.
func (s *Site) Close() {
	for _, h := range s.hosts {
		_ = h.Close() // nothing is lost: all writes are acknowledged by then
	}
	s.jumps.Close()
}

// KnownHosts is the site's own known_hosts file.
func (s *Site) KnownHosts() string { return filepath.Join(s.Inventory.SiteDir(), "known_hosts") }
