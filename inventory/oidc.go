package inventory

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Signing in: Dex in the service cluster, whose tokens the workload cluster's API server accepts.

// IssuerClient is the client that Dex makes tokens for: their audience.
const IssuerClient = "kubernetes"

// Issuer is the address that Dex's tokens name, where browsers and the workload cluster reach it; empty: Dex is off.
func (inv *Inventory) Issuer() string {
	o, on := inv.Platform.OIDC, inv.Components["dex"].Enabled
	if o == nil || on == nil || !*on || inv.Clusters.Service == nil {
		return ""
	}
	return o.Issuer()
}

// Issuer is the address that tokens name.
func (o *OIDC) Issuer() string {
	return "https://" + net.JoinHostPort(o.Address, strconv.Itoa(o.Port)) + "/dex"
}

func (inv *Inventory) fillOIDC() {
	o := inv.Platform.OIDC
	if o == nil {
		return
	}
	o.Address = canonical(o.Address)
	set(&o.Address, inv.Platform.Ingest.Address)
	set(&o.Port, 30556)
	set(&o.UsernameClaim, "email")
	set(&o.Connector.Name, o.Connector.Type)
	for name, s := range o.Connector.Secrets {
		inv.fillSecret(&s)
		o.Connector.Secrets[name] = s
	}
}

func (v *validator) oidc() {
	o := v.inv.Platform.OIDC
	if o == nil {
		return
	}
	if v.inv.Clusters.Service == nil {
		v.fail("platform.oidc", "leave it out, or add clusters.service", "Dex is a part of the service cluster, which this inventory does not have")
		return
	}
	i := v.inv.Platform.Ingest
	switch {
	case o.Port < 30000 || o.Port > 32767:
		v.fail("platform.oidc.port", "", "expected a node port, 30000 to 32767, found %d", o.Port)
	case o.Port == i.ForwardPort || o.Port == i.MetricsPort:
		v.fail("platform.oidc.port", "", "it is also a port of platform.ingest: %d", o.Port)
	}
	v.connector("platform.oidc.connector", o.Connector)
}

// variable is what Dex replaces by a variable of its environment.
var variable = regexp.MustCompile(`\$(\{[^}]*\}|[A-Za-z0-9_]+|.|$)`)

// connector checks that secrets are named, and only named. What else the settings must be knows Dex.
func (v *validator) connector(field string, c Connector) {
	used := map[string]bool{}
	eachText("", c.Config, func(path, key, text string) {
		at := field + ".config" + path
		key = strings.ToLower(key)
		secret := strings.Contains(key, "secret") || strings.Contains(key, "password") || key == "bindpw"
		if secret && text != "" && !strings.HasPrefix(text, "$") {
			v.fail(at, "name a file or a variable in connector.secrets, and write $NAME here", "it looks like a secret, which never stands in an inventory")
			return
		}
		for _, m := range variable.FindAllString(text, -1) {
			name := strings.Trim(m, "${}")
			if _, ok := c.Secrets[name]; !ok {
				if secret {
					name = "such name" // it may be the secret itself
				}
				v.fail(at, "add it there", "connector.secrets has no %s", name)
			}
			used[name] = true
		}
	})
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		v.private(field+".secrets."+name+".file", c.Secrets[name].File)
		if !used[name] {
			v.warn(field+".secrets."+name, "", "connector.config does not use $%s", name)
		}
	}
}

// eachText goes through all texts below a value; key is the last name on the way.
func eachText(path string, value any, do func(path, key, text string)) {
	var walk func(path, key string, value any)
	walk = func(path, key string, value any) {
		switch t := value.(type) {
		case string:
			do(path, key, t)
		case []any:
			for i, item := range t {
				walk(fmt.Sprintf("%s[%d]", path, i), key, item)
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(t)) {
				walk(path+"."+k, k, t[k])
			}
		}
	}
	walk(path, "", value)
}
