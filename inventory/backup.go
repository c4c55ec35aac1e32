package inventory

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Backups: each cluster's bucket is outside of both clusters and has a key of its own. Above all, the workload cluster's key
// must open nothing of what the service cluster keeps.

func (inv *Inventory) fillBackup(name ClusterName) {
	b := inv.Cluster(name).Backup
	if b == nil {
		return
	}
	set(&b.Region, "us-east-1")
	set(&b.Bucket, inv.derived(string(name)+"-backup"))
	b.CAFile = inv.resolve(b.CAFile)
	inv.fillSecret(b.Credentials.Access)
	inv.fillSecret(b.Credentials.Secret)
}

func backupField(name ClusterName) string { return "clusters." + string(name) + ".backup" }

// keys are the two secrets of an access key, with their fields.
func (k AccessKey) keys(field string) []namedSecret {
	return []namedSecret{{field + ".access", k.Access}, {field + ".secret", k.Secret}}
}

func (v *validator) backups() {
	taken := map[string]string{} // who has a bucket
	if o := v.inv.Platform.ObjectStorage; o != nil {
		for _, b := range []string{o.Buckets.Evidence, o.Buckets.Loki, o.Buckets.Thanos} {
			taken[hostPort(o.Endpoint)+"/"+b] = "platform.objectStorage"
		}
	}
	var known []namedSecret
	for _, s := range v.inv.platformSecrets() {
		if strings.HasPrefix(s.field, "platform.objectStorage.") {
			known = append(known, s)
		}
	}
	for _, name := range v.inv.ClusterNames() {
		b := v.inv.Cluster(name).Backup
		if b == nil {
			continue
		}
		f := backupField(name)
		v.exists(f+".caFile", b.CAFile)
		v.outside(name, f+".endpoint", b.Endpoint)
		v.once(taken, hostPort(b.Endpoint)+"/"+b.Bucket, f, f+".bucket", "the bucket %s is that of %s: a backup needs one of its own")
		for _, mine := range b.Credentials.keys(f + ".credentials") {
			if mine.secret == nil {
				continue
			}
			v.private(mine.field+".file", mine.secret.File)
			for _, other := range known {
				if other.secret != nil && *other.secret == *mine.secret {
					v.fail(mine.field, "make a key that opens this bucket alone", "it is also %s", other.field)
				}
			}
		}
		known = append(known, b.Credentials.keys(f+".credentials")...)
	}
}

// outside refuses an S3 that is a part of a cluster, and warns of the one that the evidence is kept in.
func (v *validator) outside(name ClusterName, field, endpoint string) {
	u, err := url.Parse(endpoint)
	if err != nil || v.broken(field) {
		return // the decoder said so
	}
	host := u.Hostname()
	if strings.HasSuffix(host, ".svc") || strings.Contains(host, ".svc.") {
		v.fail(field, "name an S3 outside of both clusters", "%s is a Service of a cluster: a backup there is lost with it, and the service cluster's S3 keeps evidence only", host)
		return
	}
	for _, c := range v.inv.ClusterNames() {
		if !slices.Contains(v.inv.addresses(c), host) {
			continue
		}
		reason := "a backup there is lost with it"
		if name == Workload && c == Service {
			reason = "the workload cluster must not hold a key to a store of it"
		}
		v.fail(field, "name an S3 outside of both clusters", "%s is the %s cluster: %s", host, c, reason)
		return
	}
	if o := v.inv.Platform.ObjectStorage; o != nil && name == Workload && hostPort(o.Endpoint) == hostPort(endpoint) {
		v.warn(field, "use another S3, or make sure that its key opens this bucket only",
			"it is also platform.objectStorage, where the evidence is kept: what this key may do there, an attacker in the workload cluster may do")
	}
}

// addresses are where a cluster answers.
func (inv *Inventory) addresses(name ClusterName) []string {
	c := inv.Cluster(name)
	out := []string{c.Endpoint.Address}
	if name == Service {
		out = append(out, inv.Platform.Ingest.Address)
	}
	for _, n := range c.Nodes {
		out = append(out, n.Address)
	}
	return out
}

// hostPort is host:port of an https:// address, in one spelling.
func hostPort(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return fmt.Sprintf("%s:%s", canonical(u.Hostname()), port)
}
