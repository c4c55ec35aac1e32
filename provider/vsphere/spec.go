package vsphere

// What a machine shall be: the names of the inventory found in the vCenter, and the specification of its clone.

import (
	"context"
	"encoding/json"
	"sort"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// shape is what the machines of a pool have in common.
type shape struct {
	want      inventory.VSphereMachine
	pool      ref    // the resource pool
	compute   *thing // its cluster or host
	datastore *thing // nil: the template's
	pod       *thing // a datastore cluster, instead
	network   *thing // nil: the template's
	template  *thing // nil where nothing is cloned and it is not there any more

	source mo.VirtualMachine // the template's details; only where something is cloned
	change []types.BaseVirtualDeviceConfigSpec
}

// shapes finds the names of each kind of machine once.
type shapes struct {
	j   job
	at  *catalog
	all map[string]*shape
}

// of finds what the inventory names for a machine. missing says that it must be cloned, for which the template must be there.
func (s *shapes) of(want inventory.VSphereMachine, missing bool) (*shape, error) {
	want.Gateway, want.Prefix, want.DNS, want.Tags, want.Attributes = "", 0, nil, nil, nil // nothing that is looked up here
	id, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	out := s.all[string(id)]
	if out == nil {
		out = &shape{want: want}
		if err := out.place(s.j, s.at); err != nil {
			return nil, err
		}
		s.all[string(id)] = out
	}
	if out.template == nil && missing {
		out.template, err = s.at.find("template", want.Template, "VirtualMachine")
	}
	return out, err
}

// place finds where the machines run and where their disks and cards are.
func (s *shape) place(j job, at *catalog) error {
	or := func(name, variable string) string {
		if name == "" {
			return j.getenv(variable)
		}
		return name
	}
	if s.want.Template == "" {
		return permanent("no template is named: machines are cloned from one")
	}
	var err error
	pool := or(s.want.ResourcePool, "GOVC_RESOURCE_POOL")
	if s.want.Cluster == "" && pool != "" {
		var found *thing
		if found, err = at.find("resource pool", pool, "ResourcePool", "VirtualApp"); err != nil {
			return err
		}
		s.pool = found.ref
		owner, _ := found.props["owner"].(ref)
		s.compute = at.things[owner]
	} else {
		if s.compute, err = at.find("cluster", s.want.Cluster, "ClusterComputeResource", "ComputeResource"); err != nil {
			return err
		}
		s.pool, _ = s.compute.props["resourcePool"].(ref)
		if s.want.ResourcePool != "" {
			found, err := at.below(s.compute, "resource pool", s.want.ResourcePool, "ResourcePool", "VirtualApp")
			if err != nil {
				return err
			}
			s.pool = found.ref
		}
	}
	if s.compute == nil {
		return permanent("the cluster of the resource pool %s can not be seen by this account", pool)
	}
	if s.want.DatastoreCluster != "" {
		if s.pod, err = at.find("datastore cluster", s.want.DatastoreCluster, "StoragePod"); err != nil {
			return err
		}
	} else if name := or(s.want.Datastore, "GOVC_DATASTORE"); name != "" {
		if s.datastore, err = at.find("datastore", name, "Datastore"); err != nil {
			return err
		}
	}
	if name := or(s.want.Network, "GOVC_NETWORK"); name != "" {
		if s.network, err = at.find("network", name, "Network", "OpaqueNetwork", "DistributedVirtualPortgroup"); err != nil {
			return err
		}
	}
	return s.spread()
}

// spread checks that a rule can keep machines apart there.
func (s *shape) spread() error {
	if s.want.AntiAffinity == "" || s.want.AntiAffinity == inventory.AntiAffinityNone {
		return nil
	}
	conf, ok := s.compute.props["configurationEx"].(types.ClusterConfigInfoEx)
	if !ok || conf.DrsConfig.Enabled == nil || !*conf.DrsConfig.Enabled {
		return permanent("antiAffinity %s needs a cluster with DRS, which %s is not: turn DRS on, or say none", s.want.AntiAffinity, s.compute.path)
	}
	return nil
}

// detail reads the template and works out what a clone changes in its devices.
func (c *client) detail(ctx context.Context, s *shape) error {
	if err := c.get(ctx, s.template.ref, []string{"config.hardware", "snapshot", "summary.storage", "recentTask"}, &s.source); err != nil {
		return err
	}
	if s.source.Config == nil {
		return permanent("the settings of the template %s can not be read: is its host connected?", s.template.path)
	}
	linked := s.want.LinkedClone != nil && *s.want.LinkedClone
	if linked && (s.source.Snapshot == nil || s.source.Snapshot.CurrentSnapshot == nil) {
		return permanent("the template %s has no snapshot, which a linked clone shares: take one, or leave linkedClone out", s.template.path)
	}
	s.change = nil
	if s.want.DiskGiB > 0 {
		disk := firstDisk(s.source.Config.Hardware.Device)
		if disk == nil {
			return permanent("the template %s has no disk", s.template.path)
		}
		size := int64(s.want.DiskGiB) << 30
		switch {
		case size < diskSize(disk):
			return permanent("diskGiB %d is less than the disk of the template %s has, %d GiB: a disk can only grow",
				s.want.DiskGiB, s.template.path, (diskSize(disk)+1<<30-1)>>30)
		case size > diskSize(disk) && linked:
			return permanent("a linked clone shares the disk of the template %s, which can not grow to %d GiB: leave diskGiB or linkedClone out",
				s.template.path, s.want.DiskGiB)
		case size > diskSize(disk):
			s.change = append(s.change, grown(disk, size))
		}
	}
	if err := s.addDisks(); err != nil {
		return err
	}
	return c.plug(ctx, s)
}

// addDisks adds the empty disks, thin, behind the template's.
func (s *shape) addDisks() error {
	if len(s.want.ExtraDisksGiB) == 0 {
		return nil
	}
	devices := object.VirtualDeviceList(s.source.Config.Hardware.Device)
	first := firstDisk(devices)
	if first == nil {
		return permanent("the template %s has no disk", s.template.path)
	}
	controller, ok := devices.FindByKey(first.ControllerKey).(types.BaseVirtualController)
	if !ok {
		return permanent("the first disk of the template %s has no controller that takes more disks", s.template.path)
	}
	for i, gib := range s.want.ExtraDisksGiB {
		disk := devices.CreateDisk(controller, ref{}, "")
		disk.CapacityInBytes, disk.CapacityInKB = int64(gib)<<30, int64(gib)<<20
		disk.Key = int32(-100 - i)
		disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Datastore = nil // where the machine is
		devices = append(devices, disk)
		s.change = append(s.change, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate, Device: disk,
		})
	}
	return nil
}

// plug puts the first network card into the named network.
func (c *client) plug(ctx context.Context, s *shape) error {
	cards := object.VirtualDeviceList(s.source.Config.Hardware.Device).SelectByType((*types.VirtualEthernetCard)(nil))
	if len(cards) != 1 {
		return permanent("the template %s has %d network cards: it must have exactly one", s.template.path, len(cards))
	}
	if s.network == nil {
		return nil
	}
	net, ok := object.NewReference(c.Client, s.network.ref).(object.NetworkReference)
	if !ok {
		return permanent("%s is no network that a machine can be in", s.network.path)
	}
	var backing types.BaseVirtualDeviceBackingInfo
	err := c.again(ctx, func() (err error) {
		backing, err = net.EthernetCardBackingInfo(ctx)
		return err
	})
	if err != nil {
		return err
	}
	card := cards[0].(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	card.Backing, card.MacAddress, card.AddressType = backing, "", string(types.VirtualEthernetCardMacTypeGenerated)
	s.change = append(s.change, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: cards[0]})
	return nil
}

func diskSize(d *types.VirtualDisk) int64 { return max(d.CapacityInBytes, d.CapacityInKB<<10) }

// grown is the change of a disk to a size in bytes.
func grown(disk *types.VirtualDisk, size int64) types.BaseVirtualDeviceConfigSpec {
	larger := *disk
	larger.CapacityInBytes, larger.CapacityInKB = size, size>>10
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: &larger}
}

// room checks that the disks of the missing machines fit, before any of them is made. Thin disks that grow later are not counted.
func (s *survey) room() error {
	need := map[*thing]int64{}
	for _, w := range s.wishes {
		if w.have != nil || w.shape == nil || w.shape.want.LinkedClone != nil && *w.shape.want.LinkedClone {
			continue
		}
		on := w.shape.pod
		if on == nil {
			on = w.shape.datastore
		}
		if st := w.shape.source.Summary.Storage; on != nil && st != nil {
			need[on] += st.Committed // of the extra disks nothing is written yet
		}
	}
	full := make([]*thing, 0, len(need))
	for on, bytes := range need {
		if free, ok := on.props["summary.freeSpace"].(int64); ok && free < bytes {
			full = append(full, on)
		}
	}
	if len(full) == 0 {
		return nil
	}
	sort.Slice(full, func(i, j int) bool { return full[i].path < full[j].path })
	free, _ := full[0].props["summary.freeSpace"].(int64)
	return permanent("the datastore %s is full: the machines that are to be made need %d MiB, and %d MiB are free", full[0].path, need[full[0]]>>20, free>>20)
}

// cloneSpec is a node's machine: everything that is ours to say about it is in this one operation, its marks too.
func (c *client) cloneSpec(ctx context.Context, s *survey, w *wish) (types.VirtualMachineCloneSpec, error) {
	var none types.VirtualMachineCloneSpec
	n, sh := w.node, w.shape
	ssh := s.inv.SSHFor(s.cluster, n)
	authorized, err := authorizedKeys(s.job, ssh)
	if err != nil {
		return none, err
	}
	id := identity(s.site, s.cluster, n.Name)
	settings := map[string]string{
		markSite: s.site, markCluster: string(s.cluster), markNode: n.Name, markRole: string(n.Role),
		"disk.EnableUUID": "TRUE", // the storage driver finds disks by it
	}
	var key *hostKey
	if n.HostKey == "" { // one that is pinned comes with the template
		k, err := newHostKey(n.Name)
		if err != nil {
			return none, err
		}
		key, settings[markHostKey] = &k, k.public
	}
	if isStatic(n.Address, w.want) {
		settings[markAddress] = n.Address
	}
	user := ssh.User
	if user == "" {
		user = "root"
	}
	guest, err := guestSettings(n.Name, id, user, authorized, key, guestNetwork(n.Address, w.want))
	if err != nil {
		return none, err
	}
	for k, v := range guest {
		settings[k] = v
	}
	spec := types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{
			Pool: &sh.pool, Folder: s.folder,
			DiskMoveType: string(types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndDisallowSharing),
		},
		Config: &types.VirtualMachineConfigSpec{
			InstanceUuid: id, NumCPUs: int32(sh.want.CPUs), MemoryMB: int64(sh.want.MemoryMiB),
			DeviceChange: sh.change, ExtraConfig: object.OptionValueListFromMap(settings),
			Annotation: "node " + n.Name + " of the " + string(s.cluster) + " cluster of " + s.site + ", made by Catamaran",
		},
	}
	if sh.datastore != nil {
		spec.Location.Datastore = &sh.datastore.ref
	}
	if sh.want.LinkedClone != nil && *sh.want.LinkedClone {
		spec.Location.DiskMoveType = string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking)
		spec.Snapshot = sh.source.Snapshot.CurrentSnapshot
	}
	if sh.pod != nil {
		spec.Location.Datastore, err = c.recommended(ctx, s, w, spec)
	}
	return spec, err
}

// recommended asks Storage DRS which datastore of the cluster takes the machine.
func (c *client) recommended(ctx context.Context, s *survey, w *wish, spec types.VirtualMachineCloneSpec) (*ref, error) {
	pod := w.shape.pod
	res, err := methods.RecommendDatastores(ctx, c, &types.RecommendDatastores{
		This: *c.ServiceContent.StorageResourceManager,
		StorageSpec: types.StoragePlacementSpec{
			Type: string(types.StoragePlacementSpecPlacementTypeClone), Vm: &w.shape.template.ref, CloneName: w.node.Name, CloneSpec: &spec,
			Folder: s.folder, ResourcePool: &w.shape.pool,
			PodSelectionSpec: types.StorageDrsPodSelectionSpec{
				StoragePod: &pod.ref, InitialVmConfig: []types.VmPodConfigForPlacement{{StoragePod: pod.ref}},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	for _, r := range res.Returnval.Recommendations {
		for _, a := range r.Action {
			if place, ok := a.(*types.StoragePlacementAction); ok {
				return &place.Destination, nil
			}
		}
	}
	return nil, permanent("the datastore cluster %s has no datastore that takes the machine %s: is there room, is Storage DRS on?", pod.path, w.node.Name)
}
