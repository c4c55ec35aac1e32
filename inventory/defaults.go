package inventory

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// assumed are defaults that a reader may not expect.
type assumed struct {
	enabled bool // platform.enabled
	address bool // platform.ingest.address
}

// fill sets the defaults that types.go documents and resolves paths.
func (inv *Inventory) fill() assumed {
	inv.Bundle = inv.resolve(inv.Bundle)
	inv.Vault.IdentityFile = inv.resolve(inv.Vault.IdentityFile)
	inv.fillSSH(&inv.SSH)
	set(&inv.SSH.User, "root")
	set(&inv.SSH.Port, 22)
	set(&inv.SSH.ConnectTimeout, Duration(10*time.Second))
	set(&inv.SSH.KeepAlive, Duration(5*time.Second))
	setTrue(&inv.Kubernetes.FailOnCgroupV1)
	setTrue(&inv.Host.DisableSwap)
	setTrue(&inv.Host.Firewall)
	m := &inv.Host.Minimum
	set(&m.ControlPlaneCPUs, 2)
	set(&m.ControlPlaneMemoryMiB, 1700)
	set(&m.WorkerCPUs, 1)
	set(&m.WorkerMemoryMiB, 1024)
	set(&m.DiskGiB, 10)
	set(&m.ClockSkew, Duration(2*time.Second))
	inv.expandPools()
	for _, c := range inv.ClusterNames() {
		inv.fillCluster(inv.Cluster(c))
		inv.fillBackup(c)
	}
	a := inv.fillPlatform()
	for i := range inv.Releases {
		r := &inv.Releases[i]
		set(&r.Timeout, Duration(5*time.Minute))
		if !strings.HasPrefix(r.Chart, "oci://") {
			r.Chart = inv.resolve(r.Chart)
		}
		for j := range r.ValuesFiles {
			r.ValuesFiles[j] = inv.resolve(r.ValuesFiles[j])
		}
		inv.fillSecret(r.Password)
	}
	return a
}

func (inv *Inventory) fillCluster(c *Cluster) {
	set(&c.Version, inv.Kubernetes.Version)
	inv.fillSSH(c.SSH)
	set(&c.Endpoint.Port, 6443)
	c.Endpoint.Address = canonical(c.Endpoint.Address)
	c.Network.PodCIDR, c.Network.ServiceCIDR = canonical(c.Network.PodCIDR), canonical(c.Network.ServiceCIDR)
	set(&c.Network.DNSDomain, "cluster.local")
	set(&c.Network.CNI, CNIFlannel)
	set(&c.Network.ProxyMode, "nftables")
	if c.Network.NetworkPolicy == nil {
		policy := c.Network.CNI == CNIFlannel
		c.Network.NetworkPolicy = &policy
	}
	inv.fillProvider(&c.Provider)
	inv.fillCloud(c.Cloud)
	for i := range c.Pools {
		inv.fillSSH(c.Pools[i].SSH)
	}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		set(&n.State, Present)
		n.Address = canonical(n.Address)
		inv.fillSSH(n.SSH)
	}
	planes := c.ControlPlanes()
	if c.Endpoint.Address == "" && len(planes) == 1 {
		c.Endpoint.Address = planes[0].Address
	}
	if c.Endpoint.Mode == "" {
		c.Endpoint.Mode = EndpointVIP
		if len(planes) == 1 && planes[0].Address == c.Endpoint.Address {
			c.Endpoint.Mode = EndpointNode
		}
	}
	set(&c.APIServer.AuditMaxAgeDays, 30)
	set(&c.APIServer.AuditMaxBackups, 10)
	set(&c.APIServer.AuditMaxSizeMiB, 100)
	c.APIServer.AuditPolicyFile = inv.resolve(c.APIServer.AuditPolicyFile)
	setTrue(&c.Encryption.Enabled)
	set(&c.Kubelet.MaxPods, 110)
	if c.Kubelet.EvictionHard == nil {
		c.Kubelet.EvictionHard = map[string]string{
			"memory.available": "200Mi", "nodefs.available": "10%", "imagefs.available": "10%", "nodefs.inodesFree": "5%",
		}
	}
}

// days are the retentions that a size stands for.
type days struct{ logs, metrics, lock int }

func retentionOf(size PlatformSize) days {
	switch size {
	case Small:
		return days{30, 15, 30}
	case Large:
		return days{180, 90, 365}
	}
	return days{90, 30, 365}
}

func (inv *Inventory) fillPlatform() assumed {
	p := &inv.Platform
	a := assumed{p.Enabled == nil, p.Ingest.Address == ""}
	if p.Enabled == nil {
		on := inv.Clusters.Service != nil || p.Ingest.Address != ""
		p.Enabled = &on
	}
	set(&p.Size, Standard)
	set(&p.Tenant, inv.derived("workload"))
	p.Ingest.Address = canonical(p.Ingest.Address)
	if s := inv.Clusters.Service; s != nil {
		set(&p.Ingest.Address, s.Endpoint.Address)
	}
	set(&p.Ingest.ForwardPort, 30224)
	set(&p.Ingest.MetricsPort, 30443)
	if c := p.Ingest.Credentials; c != nil {
		c.CAFile, c.CertificateFile = inv.resolve(c.CAFile), inv.resolve(c.CertificateFile)
		inv.fillSecret(c.Key)
	}
	by := retentionOf(p.Size)
	set(&p.Retention.LogsDays, by.logs)
	set(&p.Retention.MetricsDays, by.metrics)
	set(&p.Retention.LockDays, by.lock)
	set(&p.SilenceAlert, Duration(10*time.Minute))
	if o := p.ObjectStorage; o != nil {
		set(&o.Region, "us-east-1")
		o.CAFile = inv.resolve(o.CAFile)
		set(&o.Buckets.Evidence, inv.derived("evidence"))
		set(&o.Buckets.Loki, inv.derived("loki"))
		set(&o.Buckets.Thanos, inv.derived("thanos"))
	}
	for _, s := range inv.platformSecrets() {
		inv.fillSecret(s.secret)
	}
	inv.fillOIDC()
	return a
}

// derived is a name that follows from the site's, cut to what a label and a bucket's name hold.
func (inv *Inventory) derived(suffix string) string {
	most := 63 - len(suffix) - 1
	site := inv.Metadata.Name
	return strings.TrimRight(site[:min(len(site), most)], "-") + "-" + suffix
}

func (inv *Inventory) fillSSH(s *SSH) {
	if s == nil {
		return
	}
	s.KeyFile, s.KnownHosts = inv.resolve(s.KeyFile), inv.resolve(s.KnownHosts)
	inv.fillSecret(s.KeyPassphrase)
	inv.fillSecret(s.SudoPassword)
	for i := range s.Jump {
		s.Jump[i].KeyFile = inv.resolve(s.Jump[i].KeyFile)
		set(&s.Jump[i].Port, 22)
	}
}

func (inv *Inventory) fillSecret(s *Secret) {
	if s != nil {
		s.File = inv.resolve(s.File)
	}
}

// preset is the order of a release that names none; 0 is an order too.
func (r *Release) preset() { r.Order = 100 }

func (inv *Inventory) fillProvider(p *Provider) {
	if *p == (Provider{}) {
		p.OnPrem = &OnPrem{}
	}
	if o := p.OpenStack; o != nil {
		o.Network.CIDR = canonical(o.Network.CIDR)
	}
	if o := p.VSphere; o != nil {
		o.CAFile = inv.resolve(o.CAFile)
	}
	if o := p.External; o != nil && len(o.Command) > 0 && strings.Contains(o.Command[0], "/") {
		o.Command[0] = inv.resolve(o.Command[0]) // a name without a slash is looked for in PATH
	}
}

func (inv *Inventory) fillCloud(c *Cloud) {
	if c == nil {
		return
	}
	if o := c.OpenStack; o != nil {
		o.CAFile = inv.resolve(o.CAFile)
	}
	if o := c.VSphere; o != nil {
		o.CAFile = inv.resolve(o.CAFile)
	}
	for _, s := range c.secrets("") {
		inv.fillSecret(s.secret)
	}
}

// canonical is the one spelling of an address or a network that Kubernetes reports; IPv6 has many.
func canonical(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String()
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.String()
	}
	return s
}

// resolve makes a path of the file absolute: "~/" is the operator's home, anything else starts at the file.
func (inv *Inventory) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return filepath.Join(inv.Dir, path)
}

func set[T comparable](p *T, otherwise T) {
	var zero T
	if *p == zero {
		*p = otherwise
	}
}

func setTrue(p **bool) {
	if *p == nil {
		yes := true
		*p = &yes
	}
}
