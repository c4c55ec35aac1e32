package openstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/gophercloud/gophercloud/v2"
	gopenstack "github.com/gophercloud/gophercloud/v2/openstack"
	vservices "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/aggregates"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/agents"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/provider"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

// projectNames are those of the users: one project for each cluster. A project's user has its name.
var projectNames = []string{"service", "workload"}

// What every project finds.
const (
	Image           = "debian-12"
	ExternalNetwork = "public"
	VolumeType      = "fast"
	// BrokenFlavor is of servers that end in ERROR.
	BrokenFlavor = "broken"
	broken       = "the lab's hypervisor refuses this flavor"
)

var flavorTable = []struct {
	name              string
	cpus, memory, gib int // memory in MiB
}{
	{"small", 2, 2048, 20}, {"medium", 2, 4096, 20}, {"large", 4, 8192, 40}, {BrokenFlavor, 1, 512, 2}, // as much as the image wants
}

// clients are the operator's.
type clients struct {
	compute, image, network, volume *gophercloud.ServiceClient
}

func (s *supervisor) clients(ctx context.Context) (clients, error) {
	var c clients
	p, err := s.admin(ctx)
	if err != nil {
		return c, err
	}
	var errs [4]error
	c.compute, errs[0] = gopenstack.NewComputeV2(p, inner())
	c.image, errs[1] = gopenstack.NewImageV2(p, inner())
	c.network, errs[2] = gopenstack.NewNetworkV2(p, inner())
	c.volume, errs[3] = gopenstack.NewBlockStorageV3(p, inner())
	return c, errors.Join(errs[:]...)
}

// ready says whether everything that carries out requests is up: what the APIs hand to others.
func (s *supervisor) ready(c clients) func(context.Context) error {
	return func(ctx context.Context) error {
		up := map[string]bool{}
		page, err := services.List(c.compute, services.ListOpts{}).AllPages(ctx)
		if err != nil {
			return err
		}
		compute, err := services.ExtractServices(page)
		if err != nil {
			return err
		}
		for _, x := range compute {
			if x.State == "up" {
				up[x.Binary+" "+x.Host] = true
			}
		}
		if page, err = agents.List(c.network, agents.ListOpts{}).AllPages(ctx); err != nil {
			return err
		}
		network, err := agents.ExtractAgents(page)
		if err != nil {
			return err
		}
		for _, x := range network {
			if x.Alive {
				up[x.Binary+" "+x.Host] = true
			}
		}
		if page, err = vservices.List(c.volume, vservices.ListOpts{}).AllPages(ctx); err != nil {
			return err
		}
		volume, err := vservices.ExtractServices(page)
		if err != nil {
			return err
		}
		for _, x := range volume {
			if x.State == "up" {
				up[x.Binary] = true
			}
		}
		wanted := []string{"cinder-volume", "cinder-scheduler", "neutron-l3-agent net1"}
		for _, host := range s.o.computeHosts() {
			wanted = append(wanted, "nova-compute "+host, "neutron-openvswitch-agent "+host)
		}
		for _, w := range wanted {
			if !up[w] {
				return fmt.Errorf("%s is not up", w)
			}
		}
		return nil
	}
}

// seed makes what every project finds, where it is not there.
func (s *supervisor) seed(ctx context.Context, c clients) error {
	for _, do := range []func(context.Context, clients) error{s.seedFlavors, s.seedImage, s.seedNetwork, s.seedZones, s.seedVolumeType} {
		if err := do(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// there drops the complaint that something exists.
func there(err error) error {
	if gophercloud.ResponseCodeIs(err, http.StatusConflict) {
		return nil
	}
	return err
}

func (s *supervisor) seedFlavors(ctx context.Context, c clients) error {
	for _, f := range flavorTable {
		o := flavors.CreateOpts{ID: "lab-" + f.name, Name: f.name, VCPUs: f.cpus, RAM: f.memory, Disk: &f.gib}
		if err := there(flavors.Create(ctx, c.compute, o).Err); err != nil {
			return fmt.Errorf("flavor %s: %w", f.name, err)
		}
	}
	return flavors.CreateExtraSpecs(ctx, c.compute, "lab-"+BrokenFlavor, flavors.ExtraSpecsOpts{"lab:broken": broken}).Err
}

// seedImage makes an image of bytes that nobody reads: servers are hosts of the lab, with the lab's Debian.
func (s *supervisor) seedImage(ctx context.Context, c clients) error {
	page, err := images.List(c.image, images.ListOpts{Name: Image}).AllPages(ctx)
	if err != nil {
		return err
	}
	have, err := images.ExtractImages(page)
	if err != nil || len(have) > 0 {
		return err
	}
	public := images.ImageVisibilityPublic
	i, err := images.Create(ctx, c.image, images.CreateOpts{
		Name: Image, Visibility: &public, ContainerFormat: "bare", DiskFormat: "raw", MinDisk: 2, Properties: map[string]string{"os_distro": "debian", "os_version": "12"},
	}).Extract()
	if err != nil {
		return fmt.Errorf("image %s: %w", Image, err)
	}
	const size = 1 << 20
	return imagedata.Upload(ctx, c.image, i.ID, bytes.NewReader(make([]byte, size))).ExtractErr()
}

func (s *supervisor) seedNetwork(ctx context.Context, c clients) error {
	page, err := networks.List(c.network, networks.ListOpts{Name: ExternalNetwork}).AllPages(ctx)
	if err != nil {
		return err
	}
	have, err := networks.ExtractNetworks(page)
	if err != nil || len(have) > 0 {
		return err
	}
	yes, no := true, false
	n, err := networks.Create(ctx, c.network, provider.CreateOptsExt{
		CreateOptsBuilder: external.CreateOptsExt{CreateOptsBuilder: networks.CreateOpts{Name: ExternalNetwork}, External: &yes},
		Segments:          []provider.Segment{{NetworkType: "flat", PhysicalNetwork: "physnet1"}},
	}).Extract()
	if err != nil {
		return fmt.Errorf("network %s: %w", ExternalNetwork, err)
	}
	at := func(last byte) string {
		b := s.o.Floating().Addr().As4()
		b[3] = last
		return netip.AddrFrom4(b).String()
	}
	gateway := at(1)
	_, err = subnets.Create(ctx, c.network, subnets.CreateOpts{
		NetworkID: n.ID, Name: ExternalNetwork, IPVersion: gophercloud.IPv4, CIDR: s.o.Floating().String(), GatewayIP: &gateway, EnableDHCP: &no,
		AllocationPools: []subnets.AllocationPool{{Start: at(10), End: at(250)}},
	}).Extract()
	return err
}

// seedZones gives each compute host an availability zone of its own.
func (s *supervisor) seedZones(ctx context.Context, c clients) error {
	page, err := aggregates.List(c.compute).AllPages(ctx)
	if err != nil {
		return err
	}
	have, err := aggregates.ExtractAggregates(page)
	if err != nil {
		return err
	}
	zones := map[string]aggregates.Aggregate{}
	for _, a := range have {
		zones[a.Name] = a
	}
	for i, host := range s.o.computeHosts() {
		name := fmt.Sprintf("az%d", i+1)
		a, ok := zones[name]
		if !ok {
			made, err := aggregates.Create(ctx, c.compute, aggregates.CreateOpts{Name: name, AvailabilityZone: name}).Extract()
			if err != nil {
				return fmt.Errorf("aggregate %s: %w", name, err)
			}
			a = *made
		}
		// the scheduler finds new compute hosts now and then; before that nova does not know them
		err := until(ctx, "the compute host "+host, nil, func(ctx context.Context) error {
			return there(aggregates.AddHost(ctx, c.compute, a.ID, aggregates.AddHostOpts{Host: host}).Err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) seedVolumeType(ctx context.Context, c clients) error {
	return there(volumetypes.Create(ctx, c.volume, volumetypes.CreateOpts{Name: VolumeType, ExtraSpecs: map[string]string{"volume_backend_name": "lab"}}).Err)
}
