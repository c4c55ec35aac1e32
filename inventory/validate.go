package inventory

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// validator gathers what is wrong between values; what is wrong with a single one the decoder found.
type validator struct {
	inv      *Inventory
	files    bool // look whether named files exist
	errs     Errors
	decoded  int // how many of errs the decoder found
	warnings []Warning
	assumed  assumed
}

// fail reports a field, unless the decoder refused it, something in it or something around it: the rest would be an echo.
func (v *validator) fail(field, hint, format string, args ...any) {
	field = v.inv.written(field)
	if !v.broken(field) && len(v.errs) < maxErrors {
		v.errs = append(v.errs, v.inv.Errorf(field, hint, format, args...))
	}
}

func (v *validator) warn(field, hint, format string, args ...any) {
	if len(v.warnings) < maxErrors {
		v.warnings = append(v.warnings, Warning(v.inv.Errorf(field, hint, format, args...)))
	}
}

// sorted are the warnings in the file's order.
func (v *validator) sorted() []Warning {
	sort.SliceStable(v.warnings, func(i, j int) bool { return Error(v.warnings[i]).before(Error(v.warnings[j])) })
	return v.warnings
}

// broken tells whether the decoder found an error at a field, in it or around it.
func (v *validator) broken(field string) bool {
	for _, e := range v.errs[:v.decoded] {
		if within(e.Field, field) || within(field, e.Field) {
			return true
		}
	}
	return false
}

// within tells whether a field is another or a part of it.
func within(inner, outer string) bool {
	rest, ok := strings.CutPrefix(inner, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (v *validator) validate() {
	inv := v.inv
	v.exists("bundle", inv.Bundle)
	v.ssh("ssh", &inv.SSH)
	for i, name := range inv.Kubernetes.IgnorePreflightErrors {
		if strings.EqualFold(name, "all") {
			v.warn(fmt.Sprintf("kubernetes.ignorePreflightErrors[%d]", i), "name the checks", "every check of kubeadm is ignored")
		}
	}
	seen := &seen{names: map[string]string{}, addresses: map[string]string{}, keys: map[string]string{}, endpoints: map[string]string{}, logins: map[string]string{}}
	for _, c := range inv.ClusterNames() {
		v.nodes(c, inv.Cluster(c), seen)
	}
	v.pools(seen)
	for _, c := range inv.ClusterNames() {
		v.cluster(c, inv.Cluster(c), seen)
	}
	v.machines()
	v.networks()
	v.skew()
	v.firewall()
	v.platform()
	v.oidc()
	v.backups()
	v.releases()
}

// skew warns of clusters that no one version of the tools around them fits.
func (v *validator) skew() {
	s, w := v.inv.Clusters.Service, v.inv.Clusters.Workload
	if s == nil || w == nil {
		return
	}
	field := "clusters.workload.version"
	if w.Version == v.inv.Kubernetes.Version {
		field = "clusters.service.version"
	}
	if apart := minor(s.Version) - minor(w.Version); (apart > 1 || apart < -1) && !v.broken(field) && !v.broken("kubernetes.version") {
		v.warn(field, "keep them within one minor", "the clusters are %d minors apart: service %s, workload %s", max(apart, -apart), s.Version, w.Version)
	}
}

// firewall warns where nothing but the site's network guards the inside of the service cluster.
func (v *validator) firewall() {
	if fw := v.inv.Host.Firewall; fw != nil && !*fw && v.inv.Clusters.Service != nil {
		v.warn("host.firewall", "let a firewall of the site's own do what it does",
			"whoever reaches the service cluster's nodes reaches its pods, Services, etcd and kubelets too")
	}
}

func minor(version string) int {
	var m int
	_, _ = fmt.Sscanf(version, "1.%d.", &m) // 0 where the decoder refused the version
	return m
}

func (v *validator) exists(field, path string) {
	if !v.files || path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		v.fail(field, "", "%v", err)
		return
	}
	_ = f.Close() // nothing was written
}

// private is exists of a file that others must not read.
func (v *validator) private(field, path string) {
	if !v.files || path == "" {
		return
	}
	if err := private(path); err != nil {
		v.fail(field, "", "%v", err)
		return
	}
	v.exists(field, path)
}

func (v *validator) ssh(field string, s *SSH) {
	if s == nil {
		return
	}
	v.private(field+".keyFile", s.KeyFile)
	v.exists(field+".knownHosts", s.KnownHosts)
	for name, secret := range map[string]*Secret{"keyPassphrase": s.KeyPassphrase, "sudoPassword": s.SudoPassword} {
		if secret != nil {
			v.private(field+"."+name+".file", secret.File)
		}
	}
	for i, j := range s.Jump {
		v.private(fmt.Sprintf("%s.jump[%d].keyFile", field, i), j.KeyFile)
	}
}

func (v *validator) releases() {
	seen := map[string]string{}
	for i, r := range v.inv.Releases {
		f := fmt.Sprintf("releases[%d]", i)
		if r.Cluster != "" && v.inv.Cluster(r.Cluster) == nil {
			v.fail(f+".cluster", "", "there is no %s cluster in this inventory", r.Cluster)
		}
		key := string(r.Cluster) + "/" + r.Namespace + "/" + r.Name
		if first, twice := seen[key]; twice {
			v.fail(f+".name", "", "the release %s is also %s", r.Name, first)
		} else {
			seen[key] = f
		}
		if strings.HasPrefix(r.Chart, "oci://") {
			v.ociRelease(f, r)
		} else {
			v.localRelease(f, r)
		}
		for j, file := range r.ValuesFiles {
			v.exists(fmt.Sprintf("%s.valuesFiles[%d]", f, j), file)
		}
	}
}

func (v *validator) ociRelease(f string, r Release) {
	if r.Version == "" {
		v.fail(f+".version", rules["chartVersion"].hint, "an OCI chart needs an exact version")
	}
	if (r.Username == "") != (r.Password == nil) {
		v.fail(f, "", "expected both username and password, or neither")
	}
	if r.Password != nil {
		v.private(f+".password.file", r.Password.File)
	}
}

func (v *validator) localRelease(f string, r Release) {
	v.exists(f+".chart", r.Chart)
	for name, given := range map[string]bool{"version": r.Version != "", "username": r.Username != "", "password": r.Password != nil} {
		if given {
			v.warn(f+"."+name, "it is for oci:// references", "%s says nothing about a chart that is a folder or an archive", name)
		}
	}
}
