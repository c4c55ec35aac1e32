package openstack

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"go.yaml.in/yaml/v3"
)

// The library leaves out some of what an entry of clouds.yaml may say, and would act on another cloud or region than the openstack
// command. What it leaves out is refused here, or done.

// overridden are the services that are used here, as clouds.yaml and the variables call them.
func overridden() []string {
	return []string{"identity", "compute", "network", "image", "block_storage", "volume", "volumev3", "load_balancer"}
}

// cloudsFile is the clouds.yaml that the library reads; empty where there is none.
func cloudsFile(given string, get func(string) string) string {
	places := usualPlaces("clouds.yaml", get)
	if own := cmp.Or(given, get("OS_CLIENT_CONFIG_FILE")); own != "" {
		places = []string{own}
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// usualPlaces are where the openstack command looks for a file.
func usualPlaces(file string, get func(string) string) []string {
	user := get("XDG_CONFIG_HOME")
	if user == "" {
		user = filepath.Join(get("HOME"), ".config")
	}
	return []string{file, filepath.Join(user, "openstack", file), filepath.Join("/etc/openstack", file)}
}

// cloudsLocations say which files are read, where it is not only the usual ones. A secure.yaml may stand beside a clouds.yaml that is
// named; the library looks there only if it is told the file, not if it finds it in the variable.
func cloudsLocations(given string, get func(string) string) []clouds.ParseOption {
	own, secret := cmp.Or(given, get("OS_CLIENT_CONFIG_FILE")), get("OS_CLIENT_SECURE_FILE")
	var out []clouds.ParseOption
	if own != "" {
		out = append(out, clouds.WithLocations(own))
	}
	switch {
	case secret != "":
		out = append(out, clouds.WithSecureLocations(secret))
	case own != "":
		out = append(out, clouds.WithSecureLocations(append([]string{filepath.Join(filepath.Dir(own), "secure.yaml")}, usualPlaces("secure.yaml", get)...)...))
	}
	return out
}

// onlyRegion is the region that an entry of clouds.yaml means when it names none and lists one. chosen is what it names.
func onlyRegion(path, name, chosen string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return chosen, nil //nolint:nilerr // the library says it better
	}
	var file struct {
		Clouds map[string]map[string]any `yaml:"clouds"`
	}
	if yaml.Unmarshal(data, &file) != nil {
		return chosen, nil //nolint:nilerr // likewise
	}
	entry := file.Clouds[name]
	for _, service := range overridden() {
		if key := service + "_endpoint_override"; entry[key] != nil {
			return "", fmt.Errorf("%s: clouds.%s.%s is not supported: every service is found in the catalog of the cloud; take it out, and have the catalog say the right address", path, name, key)
		}
	}
	listed, _ := entry["regions"].([]any)
	var regions []string
	for _, r := range listed {
		region, values := fmt.Sprint(r), false
		if m, ok := r.(map[string]any); ok {
			region = fmt.Sprint(m["name"])
			of, _ := m["values"].(map[string]any)
			values = len(of) > 0
		}
		if values && (region == chosen || chosen == "" && len(listed) == 1) {
			return "", fmt.Errorf("%s: clouds.%s.regions: values that count for the region %s only are not supported; make an entry of its own for the region, with region_name", path, name, region)
		}
		regions = append(regions, region)
	}
	switch {
	case chosen != "" || len(regions) == 0:
		return chosen, nil
	case len(regions) > 1:
		return "", fmt.Errorf("%s: clouds.%s has the regions %s; say which one as region_name there, or in OS_REGION_NAME", path, name, strings.Join(regions, ", "))
	}
	return regions[0], nil
}

// oneRegion refuses a choice that nobody made: without a region the library takes whichever endpoint stands first, for each service.
func oneRegion(catalog *tokens.ServiceCatalog, o gophercloud.EndpointOpts) error {
	if o.Region != "" {
		return nil
	}
	used := []string{"compute", "network", "image", "block-storage", "block-store", "volume", "volumev3", "load-balancer"}
	all, several := map[string]bool{}, false
	for _, service := range catalog.Entries {
		if !slices.Contains(used, service.Type) {
			continue
		}
		own := map[string]bool{}
		for _, e := range service.Endpoints {
			if e.Interface == string(o.Availability) {
				own[e.Region], all[e.Region] = true, true
			}
		}
		several = several || len(own) > 1
	}
	if !several {
		return nil
	}
	return fmt.Errorf("the cloud has the regions %s; say which one as region_name in clouds.yaml, or in OS_REGION_NAME", strings.Join(slices.Sorted(maps.Keys(all)), ", "))
}

// firstDomain is the first domain of several that is given, by ID or else by name: a name beside an ID is refused.
func firstDomain(domains ...[2]string) (id, name string) {
	for _, d := range domains {
		switch {
		case d[0] != "":
			return d[0], ""
		case d[1] != "":
			return "", d[1]
		}
	}
	return "", ""
}

// oneIdentity leaves one word about who signs in. An ID needs no name and no domain, nor does a token, and they are refused beside it;
// the variables of a shell often hold both.
func oneIdentity(a *gophercloud.AuthOptions) {
	switch {
	case a.TokenID != "" && a.Password == "":
		a.UserID, a.Username, a.DomainID, a.DomainName = "", "", "", ""
	case a.UserID != "":
		a.Username, a.DomainID, a.DomainName = "", "", ""
	case a.DomainID != "":
		a.DomainName = ""
	}
}
