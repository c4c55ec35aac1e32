package inventory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ClusterNames are the clusters that the inventory has, the service cluster first.
func (inv *Inventory) ClusterNames() []ClusterName {
	var out []ClusterName
	for _, c := range []ClusterName{Service, Workload} {
		if inv.Cluster(c) != nil {
			out = append(out, c)
		}
	}
	return out
}

// Cluster returns a cluster, or nil.
func (inv *Inventory) Cluster(name ClusterName) *Cluster {
	switch name {
	case Service:
		return inv.Clusters.Service
	case Workload:
		return inv.Clusters.Workload
	}
	return nil
}

// Node returns a node of either cluster by name, or nil.
func (inv *Inventory) Node(name string) *Node {
	for _, c := range inv.ClusterNames() {
		for i := range inv.Cluster(c).Nodes {
			if inv.Cluster(c).Nodes[i].Name == name {
				return &inv.Cluster(c).Nodes[i]
			}
		}
	}
	return nil
}

// ControlPlanes are the control planes that belong to the cluster.
func (c *Cluster) ControlPlanes() []Node { return c.nodes(ControlPlane) }

// Workers are the workers that belong to the cluster.
func (c *Cluster) Workers() []Node { return c.nodes(Worker) }

// PresentNodes are all nodes that belong to the cluster.
func (c *Cluster) PresentNodes() []Node { return append(c.ControlPlanes(), c.Workers()...) }

func (c *Cluster) nodes(r Role) []Node {
	var out []Node
	for _, n := range c.Nodes {
		if n.Role == r && n.State != Absent {
			out = append(out, n)
		}
	}
	return out
}

// SSHFor is how a node is reached: the site's settings, then the cluster's, then the node's own, field by field.
func (inv *Inventory) SSHFor(c ClusterName, n *Node) SSH {
	s := inv.SSH
	s.over(inv.Cluster(c).SSH)
	if n != nil {
		s.over(n.SSH)
	}
	if s.Agent == nil {
		agent := s.KeyFile == ""
		s.Agent = &agent
	}
	jumps := make([]JumpHost, len(s.Jump))
	for i, j := range s.Jump {
		set(&j.User, s.User)
		set(&j.Port, 22)
		set(&j.KeyFile, s.KeyFile)
		jumps[i] = j
	}
	s.Jump = jumps
	return s
}

func (s *SSH) over(o *SSH) {
	if o == nil {
		return
	}
	replace(&s.User, o.User)
	replace(&s.Port, o.Port)
	replace(&s.KeyFile, o.KeyFile)
	replace(&s.KeyPassphrase, o.KeyPassphrase)
	replace(&s.Agent, o.Agent)
	replace(&s.KnownHosts, o.KnownHosts)
	if o.AuthorizedKeys != nil {
		s.AuthorizedKeys = o.AuthorizedKeys
	}
	replace(&s.SudoPassword, o.SudoPassword)
	replace(&s.ConnectTimeout, o.ConnectTimeout)
	replace(&s.KeepAlive, o.KeepAlive)
	if o.Jump != nil {
		s.Jump = o.Jump
	}
}

func replace[T comparable](p *T, by T) {
	var zero T
	if by != zero {
		*p = by
	}
}

// On says whether the platform is installed.
func (p Platform) On() bool { return p.Enabled != nil && *p.Enabled }

// namedSecret is a secret with the field that points at it.
type namedSecret struct {
	field  string
	secret *Secret
}

// platformSecrets are all secrets of the site's own that the platform is given; some may be nil.
func (inv *Inventory) platformSecrets() []namedSecret {
	p := &inv.Platform
	var out []namedSecret
	add := func(field string, s *Secret) { out = append(out, namedSecret{"platform." + field, s}) }
	if c := p.Ingest.Credentials; c != nil {
		add("ingest.credentials.key", c.Key)
	}
	if o := p.ObjectStorage; o != nil {
		for _, k := range []struct {
			name string
			key  AccessKey
		}{{"evidence", o.Credentials.Evidence}, {"loki", o.Credentials.Loki}, {"thanos", o.Credentials.Thanos}} {
			add("objectStorage.credentials."+k.name+".access", k.key.Access)
			add("objectStorage.credentials."+k.name+".secret", k.key.Secret)
		}
	}
	if w := p.Alerts.Webhook; w != nil {
		add("alerts.webhook.url", w.URL)
	}
	if e := p.Alerts.Email; e != nil {
		add("alerts.email.password", e.Password)
	}
	if w := p.Alerts.Watchdog; w != nil {
		add("alerts.watchdog.url", w.URL)
	}
	return out
}

// SiteDir is the folder of the site's local files: kubeconfigs, journal, lock, known_hosts.
func (inv *Inventory) SiteDir() string {
	return filepath.Join(inv.Dir, inv.Metadata.Name+".catamaran")
}

// VaultFile is the site's encrypted secrets, beside the inventory.
func (inv *Inventory) VaultFile() string {
	return filepath.Join(inv.Dir, inv.Metadata.Name+".vault.age")
}

// IdentityFile opens the vault.
func (inv *Inventory) IdentityFile() string {
	if inv.Vault.IdentityFile != "" {
		return inv.Vault.IdentityFile
	}
	return inv.resolve("~/.config/catamaran/" + inv.Metadata.Name + ".agekey")
}

// Read gets the secret. dir is the inventory's folder. Errors name the place, never the content.
func (s *Secret) Read(dir string) ([]byte, error) {
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("the environment variable %s is not set", s.Env)
		}
		return []byte(v), nil
	}
	path := (&Inventory{Dir: dir}).resolve(s.File)
	if err := private(path); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(string(data), "\n")), nil
}

// private refuses a file of secrets that others can read.
func private(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch {
	case st.IsDir():
		return errors.New(path + " is a folder, expected a file")
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it", path, st.Mode().Perm())
	}
	return nil
}

// MarshalJSON writes a duration as in the file: 5m0s.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Duration(d).String() + `"`), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Duration) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	v, err := time.ParseDuration(strings.Trim(string(data), `"`))
	*d = Duration(v)
	return err
}

// VersionOr is the cluster's Kubernetes version, or else the site's.
func (c *Cluster) VersionOr(inv *Inventory) string {
	if c.Version != "" {
		return c.Version
	}
	return inv.Kubernetes.Version
}

// String is as the file says it: 5m0s.
func (d Duration) String() string { return time.Duration(d).String() }

// Name is the provider's name in the inventory, such as onprem; empty without one.
func (p Provider) Name() string {
	switch {
	case p.OpenStack != nil:
		return "openstack"
	case p.VSphere != nil:
		return "vsphere"
	case p.External != nil:
		return "external"
	case p.OnPrem != nil:
		return "onprem"
	}
	return ""
}

// Supported tells whether a Kubernetes version can be asked for.
func Supported(version string) bool { return rules["version"].refuse(version) == "" }
