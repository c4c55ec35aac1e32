package openstack

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// planVolumes makes the boot volumes of machines that are to be made. They are made here, and not by nova on the way, so that they bear
// our mark and their failure has a reason; nova deletes them with their server.
func (j *job) planVolumes(nodes []*inventory.Node) ([]step, error) {
	var out []step
	for _, n := range nodes {
		m := j.machine(n)
		name := j.names.node(n.Name)
		v := j.volumes[name]
		if s := j.servers[n.Name]; s != nil && !unborn(s) {
			if v != nil {
				j.keep(j.volumeOf, n.Name, v.ID)
			}
			continue
		}
		if m.Volume == nil || n.State == inventory.Absent {
			continue
		}
		if j.cloud.volume == nil {
			return nil, permanent("openstack: %s: it boots from a volume, and the cloud has no block storage service", n.Name)
		}
		image, err := j.findImage(n, m.Image)
		if err != nil {
			return nil, err
		}
		if v != nil && j.servers[n.Name] == nil && bootable(v, m.Volume, image.ID) {
			j.keep(j.volumeOf, n.Name, v.ID)
			if v.Status != "available" {
				out = append(out, step{at: stageVolumes, node: n.Name, ready: volumeReady(n.Name, v.ID)})
			}
			continue
		}
		if v != nil {
			out = append(out, step{
				at: stageCleanParts, node: n.Name, change: remove("volume", name, "it is not one that the machine can start from"),
				do: j.deleteVolume(v.ID), ready: volumeGone(v.ID),
			})
		}
		out = append(out, j.newVolume(n, &m, image.ID))
	}
	return out, nil
}

// bootable tells whether a volume that a run before has left is the one that the inventory asks for by now. It holds what was the image
// then: a machine that started from another one would be marked as made from this.
func bootable(v *volumes.Volume, spec *inventory.OpenStackVolume, image string) bool {
	return v.Status != "error" && v.Size == spec.SizeGiB && (spec.Type == "" || v.VolumeType == spec.Type) &&
		(spec.AvailabilityZone == "" || v.AvailabilityZone == spec.AvailabilityZone) &&
		cmp.Or(v.Metadata[markImage], v.VolumeImageMetadata["image_id"]) == image
}

func (j *job) newVolume(n *inventory.Node, m *inventory.OpenStackMachine, image string) step {
	name, spec := j.names.node(n.Name), m.Volume
	var id string
	return step{
		at: stageVolumes, node: n.Name, needs: need{gibibytes: spec.SizeGiB},
		change: add("volume", name, "the node boots from a volume of %d GiB", spec.SizeGiB),
		do: func(ctx context.Context) error {
			zone, err := j.volumeZone(ctx, m)
			if err != nil {
				return err
			}
			o := volumes.CreateOpts{
				Name: name, Size: spec.SizeGiB, VolumeType: spec.Type, AvailabilityZone: zone, ImageID: image,
				Metadata: j.names.metadata(n), Description: j.names.mark(),
			}
			o.Metadata[markImage] = image
			v, err := create(ctx, "make the volume "+name, func(ctx context.Context) (*volumes.Volume, error) {
				return volumes.Create(ctx, j.cloud.volume, o, nil).Extract()
			}, func(ctx context.Context) (*volumes.Volume, error) {
				var all []volumes.Volume
				err := list(ctx, "volumes", volumes.List(j.cloud.volume, volumes.ListOpts{Name: name}), volumes.ExtractVolumes, &all)
				return j.madeVolume(all, n.Name, image), err
			})
			if err == nil {
				id = v.ID
				j.keep(j.volumeOf, n.Name, v.ID)
			}
			return err
		},
		ready: func(ctx context.Context, w *world) (bool, error) { return volumeReady(n.Name, id)(ctx, w) },
	}
}

// madeVolume is the volume of a request whose answer was lost. One that is being deleted may have the same name.
func (j *job) madeVolume(all []volumes.Volume, node, image string) *volumes.Volume {
	for i := range all {
		v := &all[i]
		works := !strings.HasPrefix(v.Status, "error") && v.Status != "deleting"
		if works && j.names.owns(v.Metadata) && v.Metadata[markNode] == node && v.Metadata[markImage] == image {
			return v
		}
	}
	return nil
}

// volumeZone is where a boot volume is made: nova may refuse a volume of another zone than the server's (cross_az_attach). The zones of
// a cloud's volumes need not be called as those of its servers; the cloud decides then.
func (j *job) volumeZone(ctx context.Context, m *inventory.OpenStackMachine) (string, error) {
	if m.Volume.AvailabilityZone != "" || len(m.AvailabilityZones) == 0 {
		return m.Volume.AvailabilityZone, nil
	}
	var all []availabilityzones.AvailabilityZone
	if err := list(ctx, "the zones of volumes", availabilityzones.List(j.cloud.volume), availabilityzones.ExtractAvailabilityZones, &all); err != nil {
		return "", err
	}
	for _, z := range all {
		if z.ZoneName == m.AvailabilityZones[0] && z.ZoneState.Available {
			return z.ZoneName, nil
		}
	}
	return "", nil
}

func volumeReady(node, id string) func(context.Context, *world) (bool, error) {
	return func(_ context.Context, w *world) (bool, error) {
		for i := range w.volumes {
			if w.volumes[i].ID != id {
				continue
			}
			switch w.volumes[i].Status {
			case "available":
				return true, nil
			case "error":
				return false, permanent("openstack: %s: its volume %s could not be made; the cloud's block storage says why only to its administrators: it may be full, or have no such type", node, id)
			}
		}
		return false, nil
	}
}

func volumeGone(id string) func(context.Context, *world) (bool, error) {
	return func(_ context.Context, w *world) (bool, error) {
		for i := range w.volumes {
			if w.volumes[i].ID == id {
				if w.volumes[i].Status == "error_deleting" {
					return false, permanent("openstack: the volume %s can not be deleted (error_deleting); an administrator of the cloud must reset it", id)
				}
				return false, nil
			}
		}
		return true, nil
	}
}

// deleteVolume waits until nova has let go of it.
func (j *job) deleteVolume(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		const looks = 30
		for look := 1; ; look++ {
			err := volumes.Delete(ctx, j.cloud.volume, id, nil).ExtractErr()
			if look == looks || code(err) != http.StatusBadRequest && code(err) != http.StatusConflict {
				return gone(ctx, "delete the volume "+id, err)
			}
			if v, gerr := volumes.Get(ctx, j.cloud.volume, id).Extract(); gerr == nil && v.Status == "deleting" {
				return nil
			}
			if err := sleep(ctx, j.p.options.Poll); err != nil {
				return explain(ctx, "delete the volume "+id, err)
			}
		}
	}
}
