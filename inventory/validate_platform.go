package inventory

import "time"

// ServiceTenant is the tenant of the service cluster's own metrics; no workload cluster can have its name.
const ServiceTenant = "service"

// platform checks what the compliance platform is told. A platform that is off is checked too: it will be switched on.
func (v *validator) platform() {
	p := &v.inv.Platform
	v.ingest(p)
	if p.Tenant == ServiceTenant {
		v.fail("platform.tenant", "choose another name", "%s is the tenant of the service cluster's own metrics", ServiceTenant)
	}
	v.objectStorage(p)
	if d := time.Duration(p.SilenceAlert); d%time.Minute != 0 {
		v.fail("platform.silenceAlert", "", "expected whole minutes, found %s", p.SilenceAlert)
	}
	if e := p.Alerts.Email; e != nil && (e.Username == "") != (e.Password == nil) {
		v.fail("platform.alerts.email", "", "expected both username and password, or neither")
	}
	for _, s := range v.inv.platformSecrets() {
		if s.secret != nil {
			v.private(s.field+".file", s.secret.File)
		}
	}
	r := p.Retention
	if r.LockDays < r.LogsDays {
		v.warn("platform.retention.lockDays", "let the lock last as long as logs can be searched",
			"evidence is locked for %d days, logs are searched for %d: the older ones can be deleted", r.LockDays, r.LogsDays)
	}
	if p.On() && v.inv.Clusters.Service != nil && p.Alerts == (Alerts{}) {
		v.warn("platform.alerts", "name a webhook or a mail address", "nobody is told of alerts")
	}
}

// ingest checks that the workload cluster's evidence has somewhere to go, and that it can prove who it is there.
func (v *validator) ingest(p *Platform) {
	i, service, workload := p.Ingest, v.inv.Clusters.Service, v.inv.Clusters.Workload
	if c := i.Credentials; c != nil {
		v.exists("platform.ingest.credentials.caFile", c.CAFile)
		v.exists("platform.ingest.credentials.certificateFile", c.CertificateFile)
	}
	if i.ForwardPort == i.MetricsPort {
		v.fail("platform.ingest.metricsPort", "", "it is also the forwardPort: %d", i.MetricsPort)
	}
	if service == nil {
		v.foreignIngest(p, workload != nil)
		return
	}
	for _, port := range []struct {
		name  string
		value int
	}{{"forwardPort", i.ForwardPort}, {"metricsPort", i.MetricsPort}} {
		if port.value < 30000 || port.value > 32767 {
			v.fail("platform.ingest."+port.name, "", "expected a node port, 30000 to 32767, found %d", port.value)
		}
	}
	if i.Credentials != nil {
		v.fail("platform.ingest.credentials", "leave them out", "this inventory has the service cluster, whose vault makes them")
	}
	if p.On() && service.Endpoint.Mode == EndpointExternal && i.Address == service.Endpoint.Address && v.assumed.address {
		v.warn("platform.ingest.address", "state the address to say that it does", "the load balancer %s must also pass on ports %d and %d to the service cluster's nodes",
			i.Address, i.ForwardPort, i.MetricsPort)
	}
}

// foreignIngest checks an inventory whose service cluster is not in it.
func (v *validator) foreignIngest(p *Platform, workload bool) {
	switch {
	case !p.On():
		if v.assumed.enabled && workload {
			v.warn("platform", "add the service cluster, or name another site's in platform.ingest; or say `enabled: false`",
				"the workload cluster's logs and metrics go nowhere: there is no service cluster to take them")
		}
	case p.Ingest.Address == "":
		v.fail("platform.ingest.address", "add clusters.service, name another site's service cluster here, or say `platform: {enabled: false}`",
			"missing; this inventory has no service cluster that could take the workload cluster's evidence")
	case p.Ingest.Credentials == nil:
		v.fail("platform.ingest.credentials", "the operator of the service cluster gives them out",
			"missing; the service cluster at %s is not in this inventory, so its vault can not make them", p.Ingest.Address)
	}
}

func (v *validator) objectStorage(p *Platform) {
	o := p.ObjectStorage
	if o == nil {
		return
	}
	v.exists("platform.objectStorage.caFile", o.CAFile)
	if v.inv.Clusters.Service == nil {
		v.warn("platform.objectStorage", "", "only a service cluster uses it, and there is none in this inventory")
	}
	seen := map[string]string{}
	for _, b := range []struct{ name, value string }{{"evidence", o.Buckets.Evidence}, {"loki", o.Buckets.Loki}, {"thanos", o.Buckets.Thanos}} {
		field := "platform.objectStorage.buckets." + b.name
		v.once(seen, b.value, field, field, "%s is also %s: each needs a key of its own")
	}
}
