package embedded

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// dex is the component that people sign in by.
const dex = "dex"

// signInValues are what platform.oidc says; without it, values that the chart's schema takes.
func signInValues(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
	o, issuer := inv.Platform.OIDC, ""
	if o == nil {
		o = &inventory.OIDC{Port: 30556}
	} else {
		issuer = o.Issuer()
	}
	config, err := json.Marshal(o.Connector.Config)
	if err != nil || o.Connector.Config == nil { // what was read from YAML can be written as JSON
		config = []byte("{}")
	}
	secrets := []any{}
	for _, name := range slices.Sorted(maps.Keys(o.Connector.Secrets)) {
		secrets = append(secrets, name)
	}
	return map[string]any{
		"dnsDomain": c.Network.DNSDomain, "network": networkOf(inv, c), "issuer": issuer, "port": o.Port, "clientID": inventory.IssuerClient,
		"connector": map[string]any{"type": o.Connector.Type, "name": o.Connector.Name, "config": string(config), "secrets": secrets},
	}
}

// signInSecrets are Dex's certificate, for the address that the issuer has, and what it asks the directory with.
func signInSecrets(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
	o := inv.Platform.OIDC
	if o == nil {
		return nil
	}
	door := serviceCertificate(c, dex)
	door.Certificate.Client = false
	if _, err := netip.ParseAddr(o.Address); err == nil {
		door.Certificate.IPs = append(door.Certificate.IPs, o.Address)
	} else {
		door.Certificate.DNSNames = append(door.Certificate.DNSNames, o.Address)
	}
	secrets := []Secret{door}
	if len(o.Connector.Secrets) > 0 {
		values := map[string]SecretValue{}
		for name, from := range o.Connector.Secrets {
			values[name] = SecretValue{From: &from}
		}
		secrets = append(secrets, Secret{Namespace: dex, Name: "dex-connector", Values: values})
	}
	return secrets
}

// needsDirectory says what Dex lacks that nobody can sign in by, or whose keys have no place.
func needsDirectory(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	var out []missing
	if inv.Platform.OIDC == nil {
		out = append(out, missing{field: "platform.oidc", what: "a directory of people to ask", hint: "name its connector here"})
	}
	if class, _ := inv.Components[dex].Values["storageClass"].(string); class == "" && storageClass(inv) == "" && !cloudVolumes(inv, c) {
		out = append(out, missing{
			field: "components." + dex + ".values.storageClass", what: "a storage class: local-path is off and none is named", hint: "name the site's own",
		})
	}
	return out
}
