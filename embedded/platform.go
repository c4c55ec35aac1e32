package embedded

import (
	"net/netip"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// What the platform's parts are given in common.

// onService and onWorkload are where a part can be installed.
func onService() []inventory.ClusterName  { return []inventory.ClusterName{inventory.Service} }
func onWorkload() []inventory.ClusterName { return []inventory.ClusterName{inventory.Workload} }

// gateway is the component that everything of the workload cluster is sent to.
const gateway = "ingest-gateway"

// nodeNetworks are the addresses of a cluster's nodes as networks of one address each, for NetworkPolicies.
func nodeNetworks(c *inventory.Cluster) []any {
	networks := []any{}
	if c == nil {
		return networks
	}
	for _, n := range c.PresentNodes() {
		if a, err := netip.ParseAddr(n.Address); err == nil { // the inventory accepts nothing else
			networks = append(networks, netip.PrefixFrom(a, a.BitLen()).String())
		}
	}
	return networks
}

// networkOf is what NetworkPolicies are made from: the cluster's own networks, and the nodes of the other cluster.
func networkOf(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
	return map[string]any{"podCIDR": c.Network.PodCIDR, "nodes": nodeNetworks(c), "peers": peersOf(inv, c)}
}

// peersOf are the nodes of the other cluster; of a service cluster that is in another inventory, the address that is known.
func peersOf(inv *inventory.Inventory, c *inventory.Cluster) []any {
	other := inv.Clusters.Service
	if c == other {
		return nodeNetworks(inv.Clusters.Workload)
	}
	peers := nodeNetworks(other)
	if a, err := netip.ParseAddr(inv.Platform.Ingest.Address); err == nil {
		// agents are told this address, which need not be a node's
		if p := netip.PrefixFrom(a, a.BitLen()).String(); !containsText(peers, p) {
			peers = append(peers, p)
		}
	}
	return peers
}

func containsText(list []any, text string) bool {
	for _, x := range list {
		if x == text {
			return true
		}
	}
	return false
}

// tenantNames are the workload clusters that may deliver to the service cluster.
func tenantNames(inv *inventory.Inventory) []any { return []any{inv.Platform.Tenant} }

// serviceNames are the names of Services of a namespace, as their clients may write them.
func serviceNames(c *inventory.Cluster, namespace string, services ...string) []string {
	var out []string
	for _, s := range services {
		out = append(out, s, s+"."+namespace, s+"."+namespace+".svc", s+"."+namespace+".svc."+c.Network.DNSDomain)
	}
	return append(out, "localhost")
}

// serviceCertificate is the Secret NAME-tls with which a part of the service cluster is server and client of the others.
// services are the names of its Services; none: the part's own name, which others may know it by.
func serviceCertificate(c *inventory.Cluster, name string, services ...string) Secret {
	if services == nil {
		services = []string{name}
	}
	return Secret{Namespace: name, Name: name + "-tls", Certificate: &Certificate{
		Issuer: IssuerService, Trust: IssuerService, CommonName: name, Organization: []string{name},
		DNSNames: serviceNames(c, name, services...), IPs: []string{"127.0.0.1"}, Server: true, Client: true,
	}}
}

// doorCertificate is what the ingest gateway shows to workload clusters. Its client certificates' authority is the trust.
func doorCertificate(inv *inventory.Inventory, c *inventory.Cluster) Secret {
	cert := &Certificate{
		Issuer: IssuerIngestServer, Trust: IssuerIngestClient, CommonName: gateway, Organization: []string{gateway},
		DNSNames: serviceNames(c, gateway, gateway), Server: true,
	}
	if address := inv.Platform.Ingest.Address; address != "" {
		if _, err := netip.ParseAddr(address); err == nil {
			cert.IPs = []string{address}
		} else {
			cert.DNSNames = append(cert.DNSNames, address)
		}
	}
	return Secret{Namespace: gateway, Name: "ingest-gateway-door", Certificate: cert}
}

// ingestClient is the Secret by which an agent proves to be the tenant: all that a workload cluster has of the platform's.
func ingestClient(inv *inventory.Inventory, namespace string) Secret {
	s := Secret{Namespace: namespace, Name: "ingest-client"}
	if given := inv.Platform.Ingest.Credentials; given != nil {
		s.Values = map[string]SecretValue{"tls.crt": {File: given.CertificateFile}, "tls.key": {From: given.Key}, "ca.crt": {File: given.CAFile}}
		return s
	}
	tenant := inv.Platform.Tenant
	s.Certificate = &Certificate{Issuer: IssuerIngestClient, Trust: IssuerIngestServer, CommonName: tenant, Organization: []string{tenant}, Client: true}
	return s
}

// needsIngest says what an agent lacks that has nowhere to send to.
func needsIngest(inv *inventory.Inventory, _ *inventory.Cluster) []missing {
	if inv.Clusters.Service == nil {
		if inv.Platform.Ingest.Address == "" || inv.Platform.Ingest.Credentials == nil {
			return []missing{{
				field: "platform.ingest", what: "an ingest gateway to send to, and credentials for it",
				hint: "add clusters.service, or give another site's address and credentials here",
			}}
		}
		return nil
	}
	if door, ok := componentNamed(gateway); ok && !door.enabled(inv, inv.Clusters.Service) {
		return []missing{{what: "the component " + gateway + ", which is off", hint: "switch it on, or this one off"}}
	}
	return nil
}

// OperatorName is in the client certificate that `catamaran verify` and `catamaran report` make for themselves: what tells its
// clients apart by name lets it read.
const OperatorName = "operator.catamaran.svc"

// bucketUser is who uses a bucket: with the S3 that we bring, the name of its access key too.
type bucketUser struct {
	component, bucket string
	key               func(*inventory.BucketCredentials) inventory.AccessKey
	name              func(inventory.Buckets) string
}

// bucketUsers are the users of the three buckets.
func bucketUsers() []bucketUser {
	return []bucketUser{
		{gateway, "evidence", func(c *inventory.BucketCredentials) inventory.AccessKey { return c.Evidence }, func(b inventory.Buckets) string { return b.Evidence }},
		{"loki", "loki", func(c *inventory.BucketCredentials) inventory.AccessKey { return c.Loki }, func(b inventory.Buckets) string { return b.Loki }},
		{"thanos", "thanos", func(c *inventory.BucketCredentials) inventory.AccessKey { return c.Thanos }, func(b inventory.Buckets) string { return b.Thanos }},
	}
}

func bucketUserNamed(component string) bucketUser {
	for _, u := range bucketUsers() {
		if u.component == component {
			return u
		}
	}
	return bucketUser{}
}

// ownStore is where the S3 that we bring answers.
const ownStore = "versitygw.versitygw.svc:7070"

// store is a component's s3 value: the site's own S3, or else the one that we bring.
func store(inv *inventory.Inventory, component string) map[string]any {
	u := bucketUserNamed(component)
	if o := inv.Platform.ObjectStorage; o != nil {
		return map[string]any{"endpoint": o.Endpoint, "region": o.Region, "bucket": u.name(o.Buckets), "serviceAuthority": false, "siteAuthority": o.CAFile != ""}
	}
	return map[string]any{"endpoint": "https://" + ownStore, "region": "us-east-1", "bucket": u.bucket, "serviceAuthority": true, "siteAuthority": false}
}

// volumeOrStore is store for what keeps its data on its own volume in size small, where a second copy would be a burden.
func volumeOrStore(inv *inventory.Inventory, component string) map[string]any {
	s := store(inv, component)
	if inv.Platform.ObjectStorage == nil && inv.Platform.Size == inventory.Small {
		s["endpoint"] = ""
	}
	return s
}

// storeKey is the Secret with a component's key to its bucket.
func storeKey(inv *inventory.Inventory, component string) Secret {
	s := Secret{Namespace: component, Name: component + "-s3", Values: map[string]SecretValue{
		"access": {Text: component}, "secret": {Password: passwordOf(component)},
	}}
	if o := inv.Platform.ObjectStorage; o != nil {
		key := bucketUserNamed(component).key(&o.Credentials)
		s.Values = map[string]SecretValue{"access": {From: key.Access}, "secret": {From: key.Secret}}
		if o.CAFile != "" {
			s.Values["ca.crt"] = SecretValue{File: o.CAFile}
		}
	}
	return s
}

// passwordOf is the name of a user's password for the S3 that we bring.
func passwordOf(user string) string { return "s3-" + user }

// StoreReader is the user of the S3 that we bring who may read and list the evidence, for `catamaran verify`; its secret
// key is the vault's password StoreReaderPassword.
const (
	StoreReader         = "reader"
	StoreReaderPassword = "s3-reader"
)

// storeUsers is versitygw's own file of users. Its format: https://github.com/versity/versitygw/wiki/Multi-Tenant
func storeUsers() string {
	var accounts []string
	for _, u := range []string{gateway, "loki", StoreReader, "thanos"} {
		accounts = append(accounts, `"`+u+`": {"access": "`+u+`", "secret": "{{`+passwordOf(u)+`}}", "role": "user"}`)
	}
	return `{"accessAccounts": {` + strings.Join(accounts, ", ") + `}}` + "\n"
}

// needsStore says what a component lacks whose data has nowhere to go.
func needsStore(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if inv.Platform.ObjectStorage != nil {
		return nil
	}
	if s3, ok := componentNamed("versitygw"); ok && s3.enabled(inv, c) {
		return nil
	}
	return []missing{{field: "platform.objectStorage", what: "an S3 with object lock: versitygw is off and no other is named", hint: "name one here, or switch the component versitygw on"}}
}

// needsStoreUnlessSmall is needsStore for users of volumeOrStore.
func needsStoreUnlessSmall(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if inv.Platform.ObjectStorage == nil && inv.Platform.Size == inventory.Small {
		return nil
	}
	return needsStore(inv, c)
}
