// Package story tells the story of two clusters on an OpenStack of the lab, which it starts for itself.
package story

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	sdk "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	lab "github.com/catamaran-k8s/catamaran/test/lab/openstack"
	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
	"github.com/catamaran-k8s/catamaran/test/site"
	"github.com/catamaran-k8s/catamaran/test/story"
)

var (
	keepCloud = flag.Bool("keep", false, "leave the story's cloud running at the end")
	kills     = flag.Int("kills", story.LeastKills, "at how many different API calls apply is killed")
)

// The cloud of the story, beside others.
var storyCloud = lab.Options{
	Dir: "/var/lib/catamaran-openstack-e2e", Name: "cate1", Base: 24600, Subnet: netip.MustParsePrefix("10.85.0.0/23"), Computes: lab.DefaultComputes,
}

// Networks of the projects: parts of the servers' range, which is one wire in the lab.
const (
	serviceNetwork  = "10.85.0.0/26"
	workloadNetwork = "10.85.0.64/26"
	byHandNetwork   = "10.85.0.128/26"
)

func TestStory(t *testing.T) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	release, err := site.Alone(storyCloud.Dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, release()) })
	dir := t.TempDir()
	catamaran, program := filepath.Join(dir, "catamaran"), filepath.Join(dir, "lab")
	require.NoError(t, site.Build(ctx, catamaran, "cmd/catamaran"))
	require.NoError(t, site.Build(ctx, program, "test/lab"))
	o := storyCloud
	run := func(ctx context.Context, args ...string) error {
		c := exec.CommandContext(ctx, program, append([]string{
			"openstack", "--dir", o.Dir, "--name", o.Name, "--base", fmt.Sprint(o.Base), "--subnet", o.Subnet.String(),
		}, args...)...)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		return c.Run()
	}
	require.NoError(t, run(ctx, "down", "--purge"), "what an earlier run left")
	if !*keepCloud {
		t.Cleanup(func() {
			// with a context of its own: an interrupted run cleans up too
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
			defer cancel()
			require.NoError(t, run(down, "down", "--purge"), "the cloud was not taken down cleanly")
		})
	}
	bundle, err := build.Bundle(ctx, build.Options{Kubernetes: hosts.DefaultKubernetes, Log: func(line string) { t.Log(line) }})
	require.NoError(t, err)
	require.NoError(t, run(ctx, "up"))
	w := &storyWorld{o: o, projects: map[inventory.ClusterName]project{}}
	require.NoError(t, w.signIn(ctx))
	require.NoError(t, w.writeInventory(ctx, bundle))
	story.Run(t, story.Options{World: w, Binary: catamaran, Ctx: ctx, Kills: *kills})
}

// storyWorld is the lab's cloud with a project for each cluster.
type storyWorld struct {
	o        lab.Options
	projects map[inventory.ClusterName]project
}

type project struct{ compute, network, volume, image *gophercloud.ServiceClient }

// entries are the projects' names in clouds.yaml.
var entries = map[inventory.ClusterName]string{inventory.Service: lab.ServiceCloud, inventory.Workload: lab.WorkloadCloud}

func (w *storyWorld) signIn(ctx context.Context) error {
	for c, entry := range entries {
		auth, endpoints, tls, err := clouds.Parse(clouds.WithCloudName(entry), clouds.WithLocations(w.o.CloudsFile()))
		if err != nil {
			return err
		}
		auth.AllowReauth = true
		signed, err := config.NewProviderClient(ctx, auth, config.WithTLSConfig(tls))
		if err != nil {
			return err
		}
		var p project
		var errs [4]error
		p.compute, errs[0] = sdk.NewComputeV2(signed, endpoints)
		p.network, errs[1] = sdk.NewNetworkV2(signed, endpoints)
		p.volume, errs[2] = sdk.NewBlockStorageV3(signed, endpoints)
		p.image, errs[3] = sdk.NewImageV2(signed, endpoints)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		p.compute.Microversion = "2.64"
		w.projects[c] = p
	}
	return nil
}

func (w *storyWorld) Provider() string  { return "openstack" }
func (w *storyWorld) Inventory() string { return filepath.Join(w.o.Dir, "site", "inventory.yaml") }
func (w *storyWorld) Env() []string     { return []string{"OS_CLIENT_CONFIG_FILE=" + w.o.CloudsFile()} }

func (w *storyWorld) Proxy() proxy.Client { return proxy.Client{Socket: w.o.ProxySocket()} }

// writeInventory describes both clusters, each with a network of its own in its project.
func (w *storyWorld) writeInventory(ctx context.Context, bundle string) error {
	l, err := hosts.Open(w.o.Hosts())
	if err != nil {
		return err
	}
	text, err := l.Skeleton(ctx)
	if err != nil {
		return err
	}
	m := map[string]any{}
	if err := yaml.Unmarshal(text, &m); err != nil {
		return err
	}
	m["bundle"] = bundle
	for name, c := range map[inventory.ClusterName]struct{ cidr, vip, plane, pool string }{
		inventory.Service:  {serviceNetwork, "10.85.0.50", "sc-cp-1", "sc-w"},
		inventory.Workload: {workloadNetwork, "10.85.0.114", "wc-cp-1", "wc-w"},
	} {
		cluster := site.At(m, "clusters", string(name))
		cluster["endpoint"] = map[string]any{"address": c.vip, "mode": "vip"}
		cluster["provider"] = map[string]any{"openstack": map[string]any{
			"cloud": entries[name], "sshFrom": []string{w.o.Subnet.String()}, "apiFrom": []string{w.o.Subnet.String()},
			"network": map[string]any{"cidr": c.cidr, "external": lab.ExternalNetwork},
			"machine": map[string]any{"flavor": "medium", "image": lab.Image},
		}}
		cluster["nodes"] = []any{map[string]any{"name": c.plane, "role": "control-plane"}}
		cluster["pools"] = []any{map[string]any{"name": c.pool, "role": "worker", "count": 1}}
	}
	// no volume of a hypervisor that is a stand-in can be used, and the lab builds OpenStack's programs for Kubernetes only on request
	m["components"] = map[string]any{
		"openstack-cloud-controller-manager": map[string]any{"enabled": false}, "cinder-csi": map[string]any{"enabled": false},
	}
	data, err := yaml.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(w.Inventory()), 0o755); err != nil {
		return err
	}
	return os.WriteFile(w.Inventory(), data, 0o644)
}

func (w *storyWorld) Faults() []story.Fault {
	once := func(name, match string, r proxy.Rule) story.Fault {
		r.Match, r.First, r.Times = match, 1, 1
		return story.Fault{Name: name, Rule: r}
	}
	return []story.Fault{
		once("too many requests", `^network POST .*/ports$`, proxy.Rule{Status: 429, RetryAfterSeconds: 1}),
		once("unavailable", `^network GET .*/networks$`, proxy.Rule{Status: 503}),
		once("half an answer", `^network GET .*/security-groups$`, proxy.Rule{Half: true}),
		once("the token expired", `^network GET .*/subnets$`, proxy.Rule{Unsigned: true}),
		once("slow, and cut after it was done", `^compute POST .*/servers$`, proxy.Rule{DelayMillis: 2000, Cut: true}),
	}
}

// List lists what each project has, of every kind. Ports of neutron's own DHCP come when they come and are none of anybody's.
func (w *storyWorld) List(ctx context.Context) ([]story.Resource, error) {
	var out []story.Resource
	for c, p := range w.projects {
		for _, list := range []func(context.Context) ([]story.Resource, error){
			p.servers, p.serverGroups, p.keypairs, p.networks, p.subnets, p.ports, p.routers, p.groups, p.addresses, p.volumes, p.images,
		} {
			some, err := list(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range some {
				r.Kind = string(c) + " " + r.Kind // a cluster's project may have what the other's has
				out = append(out, r)
			}
		}
	}
	return out, nil
}

func (p project) servers(ctx context.Context) (out []story.Resource, err error) {
	page, err := servers.List(p.compute, servers.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := servers.ExtractServers(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "server", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) serverGroups(ctx context.Context) (out []story.Resource, err error) {
	page, err := servergroups.List(p.compute, servergroups.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := servergroups.ExtractServerGroups(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "server group", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) keypairs(ctx context.Context) (out []story.Resource, err error) {
	page, err := keypairs.List(p.compute, keypairs.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := keypairs.ExtractKeyPairs(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "key pair", Name: v.Name, ID: v.Fingerprint})
	}
	return out, err
}

func (p project) networks(ctx context.Context) (out []story.Resource, err error) {
	page, err := networks.List(p.network, networks.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := networks.ExtractNetworks(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "network", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) subnets(ctx context.Context) (out []story.Resource, err error) {
	page, err := subnets.List(p.network, subnets.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := subnets.ExtractSubnets(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "subnet", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) ports(ctx context.Context) (out []story.Resource, err error) {
	page, err := ports.List(p.network, ports.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := ports.ExtractPorts(page)
	for _, v := range all {
		if v.DeviceOwner == "network:dhcp" {
			continue
		}
		name := v.Name
		if name == "" { // a router's, or one that nova made
			name = v.DeviceOwner + " of " + v.DeviceID + " on " + v.NetworkID
		}
		out = append(out, story.Resource{Kind: "port", Name: name, ID: v.ID})
	}
	return out, err
}

func (p project) routers(ctx context.Context) (out []story.Resource, err error) {
	page, err := routers.List(p.network, routers.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := routers.ExtractRouters(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "router", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) groups(ctx context.Context) (out []story.Resource, err error) {
	page, err := groups.List(p.network, groups.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := groups.ExtractGroups(page)
	for _, v := range all {
		if v.Name == "default" {
			continue // neutron makes it when somebody looks
		}
		out = append(out, story.Resource{Kind: "security group", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) addresses(ctx context.Context) (out []story.Resource, err error) {
	page, err := floatingips.List(p.network, floatingips.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := floatingips.ExtractFloatingIPs(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "floating IP", Name: v.FloatingIP, ID: v.ID})
	}
	return out, err
}

func (p project) volumes(ctx context.Context) (out []story.Resource, err error) {
	page, err := volumes.List(p.volume, volumes.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := volumes.ExtractVolumes(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "volume", Name: v.Name, ID: v.ID})
	}
	return out, err
}

func (p project) images(ctx context.Context) (out []story.Resource, err error) {
	page, err := images.List(p.image, images.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := images.ExtractImages(page)
	for _, v := range all {
		out = append(out, story.Resource{Kind: "image", Name: v.Name, ID: v.ID})
	}
	return out, err
}

// MakeByHand makes a server with a port on a network of its own, all of one name.
func (w *storyWorld) MakeByHand(ctx context.Context, name, user, authorizedKey string) (map[string]any, error) {
	p := w.projects[inventory.Workload]
	userData, fingerprint, err := story.UserData(name, user, authorizedKey)
	if err != nil {
		return nil, err
	}
	n, err := networks.Create(ctx, p.network, networks.CreateOpts{Name: name}).Extract()
	if err != nil {
		return nil, err
	}
	if _, err := subnets.Create(ctx, p.network, subnets.CreateOpts{Name: name, NetworkID: n.ID, CIDR: byHandNetwork, IPVersion: gophercloud.IPv4}).Extract(); err != nil {
		return nil, err
	}
	port, err := ports.Create(ctx, p.network, ports.CreateOpts{Name: name, NetworkID: n.ID}).Extract()
	if err != nil {
		return nil, err
	}
	flavor, image, err := p.small(ctx)
	if err != nil {
		return nil, err
	}
	s, err := servers.Create(ctx, p.compute, servers.CreateOpts{
		Name: name, FlavorRef: flavor, ImageRef: image, UserData: userData, Networks: []servers.Network{{Port: port.ID}},
	}, nil).Extract()
	if err != nil {
		return nil, err
	}
	err = waitFor(ctx, name+" to be ACTIVE", func() (bool, error) {
		got, err := servers.Get(ctx, p.compute, s.ID).Extract()
		if err == nil && got.Status == "ERROR" {
			err = errors.New(got.Fault.Message)
		}
		return err == nil && got.Status == "ACTIVE", err
	})
	return map[string]any{"hostKey": fingerprint, "openstack": map[string]any{"server": name}}, err
}

// small finds a flavor and the image.
func (p project) small(ctx context.Context) (flavor, image string, err error) {
	page, err := flavors.ListDetail(p.compute, flavors.ListOpts{}).AllPages(ctx)
	if err != nil {
		return "", "", err
	}
	all, err := flavors.ExtractFlavors(page)
	if err != nil {
		return "", "", err
	}
	i := slices.IndexFunc(all, func(f flavors.Flavor) bool { return f.Name == "small" })
	if i < 0 {
		return "", "", errors.New("there is no flavor small")
	}
	found, err := p.images(ctx)
	if err != nil {
		return "", "", err
	}
	for _, r := range found {
		if r.Name == lab.Image {
			return all[i].ID, r.ID, nil
		}
	}
	return "", "", errors.New("there is no image " + lab.Image)
}

// waitFor polls a cloud that is slow when it starts.
func waitFor(ctx context.Context, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

func (w *storyWorld) UnmakeByHand(ctx context.Context, name string) error {
	p := w.projects[inventory.Workload]
	id := func(list func(context.Context) ([]story.Resource, error)) (string, error) {
		all, err := list(ctx)
		if err != nil {
			return "", err
		}
		for _, r := range all {
			if r.Name == name {
				return r.ID, nil
			}
		}
		return "", nil
	}
	server, err := id(p.servers)
	if err != nil || server == "" {
		return errors.Join(err, fmt.Errorf("the server %s, ID %q", name, server))
	}
	if err := servers.Delete(ctx, p.compute, server).ExtractErr(); err != nil {
		return err
	}
	if err := waitFor(ctx, name+" to be gone", func() (bool, error) {
		left, err := id(p.servers)
		return left == "", err
	}); err != nil {
		return err
	}
	port, err := id(p.ports)
	if err != nil {
		return err
	}
	if err := ports.Delete(ctx, p.network, port).ExtractErr(); err != nil {
		return err
	}
	network, err := id(p.networks)
	if err != nil {
		return err
	}
	return networks.Delete(ctx, p.network, network).ExtractErr() // its subnet goes with it
}
