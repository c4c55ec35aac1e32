package openstack

import (
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// findFlavor finds a flavor by ID or name.
func (j *job) findFlavor(n *inventory.Node, want string) (*flavors.Flavor, error) {
	if want == "" {
		return nil, permanent("openstack: %s: the inventory names no flavor for it (provider.openstack.machine.flavor, or the pool's or node's openstack.flavor)", n.Name)
	}
	var all []string
	for i := range j.world.flavors {
		f := &j.world.flavors[i]
		if f.ID == want || f.Name == want {
			return f, nil
		}
		all = append(all, f.Name)
	}
	return nil, permanent("openstack: %s: there is no flavor %s; %s", n.Name, want, nearest(want, all))
}

// findImage finds an image by ID, or by a name that only one bears.
func (j *job) findImage(n *inventory.Node, want string) (*images.Image, error) {
	if want == "" {
		return nil, permanent("openstack: %s: the inventory names no image for it (provider.openstack.machine.image, or the pool's or node's openstack.image)", n.Name)
	}
	var found []*images.Image
	var all []string
	for i := range j.world.images {
		image := &j.world.images[i]
		if image.ID == want {
			found = []*images.Image{image}
			break
		}
		if image.Name == want && image.Status == images.ImageStatusActive {
			found = append(found, image)
		}
		all = append(all, image.Name)
	}
	switch {
	case len(found) == 0:
		return nil, permanent("openstack: %s: there is no image %s that is active; %s", n.Name, want, nearest(want, all))
	case len(found) > 1:
		return nil, permanent("openstack: %s: there are %d images called %s; name the ID (%s or %s)", n.Name, len(found), want, found[0].ID, found[1].ID)
	case found[0].Status != images.ImageStatusActive:
		return nil, permanent("openstack: %s: the image %s is not active but %s", n.Name, want, found[0].Status)
	}
	return found[0], nil
}

// fits tells whether an image starts on what a machine has.
func fits(n *inventory.Node, m *inventory.OpenStackMachine, f *flavors.Flavor, image *images.Image) error {
	disk, where := f.Disk, "the flavor "+f.Name
	if m.Volume != nil {
		disk, where = m.Volume.SizeGiB, "the volume"
	}
	if disk > 0 && image.MinDiskGigabytes > disk {
		return permanent("openstack: %s: the image %s needs a disk of %d GiB, and %s has %d", n.Name, image.Name, image.MinDiskGigabytes, where, disk)
	}
	if image.MinRAMMegabytes > f.RAM {
		return permanent("openstack: %s: the image %s needs %d MiB of memory, and the flavor %s has %d", n.Name, image.Name, image.MinRAMMegabytes, f.Name, f.RAM)
	}
	return nil
}
