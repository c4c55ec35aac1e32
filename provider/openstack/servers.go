package openstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// unborn is a server that failed while it was made. It never ran, so nothing is lost when it is made again.
func unborn(s *servers.Server) bool { return s.Status == "ERROR" && s.LaunchedAt.IsZero() }

// planServers makes missing servers, makes those again that never started, and compares the others with the inventory.
func (j *job) planServers(nodes []*inventory.Node) ([]step, error) {
	var out []step
	var wrong []error
	for _, n := range nodes {
		s := j.servers[n.Name]
		var steps []step
		var err error
		switch {
		case s == nil:
			steps, err = j.newServer(n)
		case n.State == inventory.Absent:
			// it is here to be taken out of its cluster, whatever it looks like
		case unborn(s):
			reason := "it never started: " + cmp.Or(s.Fault.Message, "no reason given")
			out = append(out, step{at: stageClean, node: n.Name, change: remove("server", n.Name, reason), do: j.deleteServer(s.ID), ready: serverGone(s.ID)})
			steps, err = j.newServer(n)
		default:
			steps, err = j.compareServer(n, s)
		}
		out = append(out, steps...)
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return out, errors.Join(wrong...)
}

func (j *job) newServer(n *inventory.Node) ([]step, error) {
	m := j.machine(n)
	flavor, err := j.findFlavor(n, m.Flavor)
	if err != nil {
		return nil, err
	}
	image, err := j.findImage(n, m.Image)
	if err != nil {
		return nil, err
	}
	if err := fits(n, &m, flavor, image); err != nil {
		return nil, err
	}
	if n.HostKey != "" {
		return nil, permanent("openstack: %s: the inventory pins an SSH host key, and the machine is not made yet; its key is made with it: take hostKey out", n.Name)
	}
	keys, err := j.authorizedKeys(n)
	if err != nil {
		return nil, err
	}
	if err := reserved(n, m.Metadata); err != nil {
		return nil, err
	}
	reason := fmt.Sprintf("the inventory lists it: flavor %s, image %s", m.Flavor, m.Image)
	if m.Volume != nil {
		reason += fmt.Sprintf(", volume of %d GiB", m.Volume.SizeGiB)
	}
	if len(m.AvailabilityZones) > 0 {
		reason += ", zone " + m.AvailabilityZones[0]
	}
	needs := need{cores: flavor.VCPUs, mebibytes: flavor.RAM}
	if policy(m.AntiAffinity) != "" {
		needs.group = n.Pool
	}
	id := ""
	return []step{{
		at: stageServers, node: n.Name, change: add("server", n.Name, "%s", reason), needs: needs,
		do: func(ctx context.Context) error {
			id, err = j.createServer(ctx, n, &m, flavor, image, keys)
			return err
		},
		ready: func(ctx context.Context, w *world) (bool, error) { return j.serverReady(ctx, w, n, &m, id) },
	}}, nil
}

// reserved refuses metadata that are our marks.
func reserved(n *inventory.Node, metadata map[string]string) error {
	for key := range metadata {
		if strings.HasPrefix(key, markPrefix) {
			return permanent("openstack: %s: metadata that begin with %s are catamaran's own, and the inventory sets %s", n.Name, markPrefix, key)
		}
	}
	return nil
}

// createServer makes the server with its marks and its host key in one request.
func (j *job) createServer(ctx context.Context, n *inventory.Node, m *inventory.OpenStackMachine, flavor *flavors.Flavor, image *images.Image, keys []string) (string, error) {
	key, err := newHostKey(n.Name)
	if err != nil {
		return "", fmt.Errorf("openstack: make the SSH host key of %s: %w", n.Name, err)
	}
	data, err := userData(n.Name, j.request.Inventory.SSHFor(j.request.Cluster, n).User, keys, key)
	if err != nil {
		return "", fmt.Errorf("openstack: write the user data of %s: %w", n.Name, err)
	}
	metadata := maps.Clone(m.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	maps.Copy(metadata, j.names.metadata(n))
	metadata[markHostKey], metadata[markImage] = key.public, m.Image
	o := servers.CreateOpts{
		Name: n.Name, FlavorRef: flavor.ID, UserData: data, ConfigDrive: m.ConfigDrive, Metadata: metadata, Tags: serverTags(m),
		Networks: []servers.Network{{Port: j.kept(j.portOf, n.Name)}},
	}
	if len(m.AvailabilityZones) > 0 {
		o.AvailabilityZone = m.AvailabilityZones[0]
	}
	if m.Volume == nil {
		o.ImageRef = image.ID
	} else {
		o.BlockDevice = []servers.BlockDevice{{
			SourceType: servers.SourceVolume, DestinationType: servers.DestinationVolume, UUID: j.kept(j.volumeOf, n.Name), DeleteOnTermination: true,
		}}
	}
	var hints servers.SchedulerHintOpts
	if policy(m.AntiAffinity) != "" {
		hints.Group = j.kept(j.poolGroup, n.Pool)
	}
	s, err := create(ctx, "make the server "+n.Name, func(ctx context.Context) (*servers.Server, error) {
		return servers.Create(ctx, j.cloud.compute, keypairs.CreateOptsExt{CreateOptsBuilder: o, KeyName: m.KeyPair}, hints).Extract()
	}, func(ctx context.Context) (*servers.Server, error) {
		var all []servers.Server
		l := servers.ListOpts{Name: "^" + regexp.QuoteMeta(n.Name) + "$"}
		err := list(ctx, "servers", servers.List(j.cloud.compute, l), servers.ExtractServers, &all)
		for i := range all {
			if j.names.owns(all[i].Metadata) && all[i].Metadata[markNode] == n.Name {
				return &all[i], nil
			}
		}
		return nil, err
	})
	if err != nil {
		return "", err
	}
	return s.ID, nil
}

func serverTags(m *inventory.OpenStackMachine) []string {
	out := append([]string{tag}, m.Tags...)
	slices.Sort(out)
	return slices.Compact(out)
}

// serverReady waits for ACTIVE. A server that failed is told with what the cloud and its console say.
func (j *job) serverReady(ctx context.Context, w *world, n *inventory.Node, m *inventory.OpenStackMachine, id string) (bool, error) {
	for i := range w.servers {
		s := &w.servers[i]
		if s.ID != id {
			continue
		}
		switch s.Status {
		case "ACTIVE":
			return true, nil
		case "ERROR":
			return false, j.serverError(ctx, n, m, s)
		}
	}
	return false, nil
}

const consoleLines = 20

func (j *job) serverError(ctx context.Context, n *inventory.Node, m *inventory.OpenStackMachine, s *servers.Server) error {
	fault := cmp.Or(s.Fault.Message, "the cloud gives no reason")
	text := fmt.Sprintf("openstack: %s: its server %s is in ERROR: %s", n.Name, s.ID, fault)
	// of several servers that are placed at once, the later ones are told that the group's policy is violated
	if strings.Contains(fault, "No valid host") || strings.Contains(fault, "nti-affinity instance group policy was violated") {
		text += fmt.Sprintf(" (no hypervisor has room for the flavor %s", m.Flavor)
		if len(m.AvailabilityZones) > 0 {
			text += " in the zone " + m.AvailabilityZones[0]
		}
		if m.AntiAffinity == inventory.AntiAffinityHard {
			text += "; antiAffinity hard asks for one hypervisor for each machine of the pool " + n.Pool
		}
		text += ")"
	}
	console, err := j.console(ctx, s.ID, consoleLines)
	switch {
	case err == nil && strings.TrimSpace(console) != "":
		text += "; its console ends with:\n" + console
	default:
		text += "; its console is empty"
	}
	return permanent("%s; it is deleted and made again by the next run", text)
}

// compareServer tells what differs from the inventory. What can be mended is; a flavor, an image or a volume can not.
func (j *job) compareServer(n *inventory.Node, s *servers.Server) ([]step, error) {
	m := j.machine(n)
	var wrong []string
	if why, err := j.otherFlavor(n, s); err != nil {
		return nil, err
	} else if why != "" {
		wrong = append(wrong, why)
	}
	if why, err := j.otherImage(n, s); err != nil {
		return nil, err
	} else if why != "" {
		wrong = append(wrong, why)
	}
	volume := j.volumes[j.names.node(n.Name)]
	switch {
	case m.Volume == nil && volume != nil:
		wrong = append(wrong, "it boots from a volume, and the inventory names none")
	case m.Volume != nil && volume == nil:
		wrong = append(wrong, "it boots from the flavor's own disk, and the inventory names a volume")
	case m.Volume != nil && volume.Size != m.Volume.SizeGiB:
		wrong = append(wrong, fmt.Sprintf("its volume has %d GiB, and the inventory says %d", volume.Size, m.Volume.SizeGiB))
	case m.Volume != nil && m.Volume.Type != "" && volume.VolumeType != m.Volume.Type:
		wrong = append(wrong, fmt.Sprintf("its volume has the type %s, and the inventory says %s", volume.VolumeType, m.Volume.Type))
	}
	if len(wrong) > 0 {
		return nil, permanent("openstack: %s: %s; this can not be changed in place: set the inventory back, or take the node out (state: absent, or another pool), apply, and make it anew",
			n.Name, strings.Join(wrong, "; "))
	}
	if err := reserved(n, m.Metadata); err != nil {
		return nil, err
	}
	out := j.planMarks(n, &m, s)
	if s.Status == "BUILD" {
		out = append(out, step{at: stageServers, node: n.Name, ready: func(ctx context.Context, w *world) (bool, error) { return j.serverReady(ctx, w, n, &m, s.ID) }})
	}
	return out, nil
}

// otherFlavor says how a server's flavor differs. One that has the inventory's name need not be there any more.
func (j *job) otherFlavor(n *inventory.Node, s *servers.Server) (string, error) {
	want := j.machine(n).Flavor
	is, _ := s.Flavor["original_name"].(string)
	if is == "" || is == want {
		return "", nil
	}
	flavor, err := j.findFlavor(n, want)
	if err != nil || is == flavor.Name {
		return "", err
	}
	return fmt.Sprintf("it has the flavor %s, and the inventory says %s", is, flavor.Name), nil
}

// otherImage says how a server's image differs. One that was made from what the inventory names is right, though that may be another
// image by now, or deleted, or two.
func (j *job) otherImage(n *inventory.Node, s *servers.Server) (string, error) {
	want, was := j.machine(n).Image, s.Metadata[markImage]
	is, _ := s.Image["id"].(string)
	if was == want || is != "" && is == want {
		return "", nil
	}
	image, err := j.findImage(n, want)
	if err != nil || is != "" && is == image.ID {
		return "", err
	}
	return fmt.Sprintf("it was made from the image %s, and the inventory says %s", cmp.Or(was, is), want), nil
}

// planMarks sets metadata and tags that are missing or were changed. Others are left: somebody else may have set them.
func (j *job) planMarks(n *inventory.Node, m *inventory.OpenStackMachine, s *servers.Server) []step {
	want := servers.MetadataOpts{}
	for key, value := range m.Metadata {
		if s.Metadata[key] != value {
			want[key] = value
		}
	}
	for key, value := range j.names.metadata(n) {
		if s.Metadata[key] != value {
			want[key] = value
		}
	}
	var missing []string
	for _, t := range serverTags(m) {
		if s.Tags == nil || !slices.Contains(*s.Tags, t) {
			missing = append(missing, t)
		}
	}
	var why []string
	if len(want) > 0 {
		why = append(why, "metadata differ: "+strings.Join(slices.Sorted(maps.Keys(want)), ", "))
	}
	if len(missing) > 0 {
		why = append(why, "tags are missing: "+strings.Join(missing, ", "))
	}
	if len(why) == 0 {
		return nil
	}
	id := s.ID
	return []step{{at: stageMarks, node: n.Name, change: mend("server", n.Name, "%s", strings.Join(why, "; ")), do: func(ctx context.Context) error {
		if len(want) > 0 {
			// the API's own word for it is a POST, but a second one changes nothing more
			_, err := create(ctx, "set the metadata of "+n.Name, func(ctx context.Context) (*map[string]string, error) {
				set, err := servers.UpdateMetadata(ctx, j.cloud.compute, id, want).Extract()
				return &set, err
			}, func(context.Context) (*map[string]string, error) { return nil, nil }) //nolint:nilnil // it is done again
			if err != nil {
				return err
			}
		}
		for _, t := range missing {
			if err := tags.Add(ctx, j.cloud.compute, id, t).ExtractErr(); err != nil {
				return explain(ctx, "tag the server "+n.Name, err)
			}
		}
		return nil
	}}}
}

func serverGone(id string) func(context.Context, *world) (bool, error) {
	return func(_ context.Context, w *world) (bool, error) {
		return !slices.ContainsFunc(w.servers, func(s servers.Server) bool {
			return s.ID == id && s.Status != "DELETED" && s.Status != "SOFT_DELETED"
		}), nil
	}
}

// deleteServer asks for it; a server that is in the middle of something refuses for a moment. An ordinary deletion may keep the server
// for days where the cloud lets them be restored: no list shows it then, but its volume stays attached and its port stays in use. Where
// the role may not force it, the ordinary one must do.
func (j *job) deleteServer(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		const looks = 30
		for look := 1; ; look++ {
			err := servers.ForceDelete(ctx, j.cloud.compute, id).ExtractErr()
			if code(err) == http.StatusForbidden {
				err = servers.Delete(ctx, j.cloud.compute, id).ExtractErr()
			}
			if code(err) != http.StatusConflict && !uncertain(err) || look == looks {
				return gone(ctx, "delete the server "+id, err)
			}
			if err := sleep(ctx, j.p.options.Poll); err != nil {
				return explain(ctx, "delete the server "+id, err)
			}
		}
	}
}
