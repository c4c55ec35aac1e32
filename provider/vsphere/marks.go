package vsphere

// By what is ours found again. The marks of truth are settings of the virtual machine itself, which are written in the same operation
// that makes it. Tags and custom attributes are for people and other programs: they are set afterwards and repaired by the next run.

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// The settings that mark a machine. They do not begin with "guestinfo.": a guest can write those itself, and who took over a machine
// of one cluster could have it taken for one of the other.
const (
	markSite    = "catamaran.site"
	markCluster = "catamaran.cluster"
	markNode    = "catamaran.node"
	markRole    = "catamaran.role"
	markHostKey = "catamaran.hostkey" // the public half
	markAddress = "catamaran.address" // of a machine with a static one
)

// identity is the instance UUID of a node's machine: a copy that somebody makes of it carries its marks, but not this.
func identity(site string, cluster inventory.ClusterName, node string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("catamaran://"+site+"/"+string(cluster)+"/"+node)).String()
}

// labels are what marks machines for people: a tag and a custom attribute.
type labels struct {
	category, tag *label
	attribute     *label
	tagged        map[ref]bool
	others        bool             // the category has tags beside ours
	keys          map[string]int32 // of all custom attributes that machines can have, by name
}

// label is one of them, as it is in the vCenter; nil where it is not.
type label struct {
	id   string // of a tag or category
	key  int32  // of an attribute
	ours bool   // or made beforehand by somebody else, and not deleted then
}

func categoryName(site string) string { return "catamaran-" + site }
func categoryID(site string) string {
	return "urn:vmomi:InventoryServiceCategory:" + uuid.NewSHA1(uuid.NameSpaceURL, []byte("catamaran://"+site)).String() + ":GLOBAL"
}

func tagName(j job) string { return j.site + "-" + string(j.cluster) }
func tagID(j job) string {
	return "urn:vmomi:InventoryServiceTag:" + uuid.NewSHA1(uuid.NameSpaceURL, []byte("catamaran://"+j.site+"/"+string(j.cluster))).String() + ":GLOBAL"
}

func attributeName(site string) string { return "catamaran." + site }

// labelsOf reads the cluster's labels. Ours have IDs that follow from their names, so that this takes few calls in a vCenter with
// thousands of tags; only where they are not there all categories are looked through for one made beforehand.
func (c *client) labelsOf(ctx context.Context, j job) (*labels, error) {
	out := &labels{tagged: map[ref]bool{}, keys: map[string]int32{}}
	var manager mo.CustomFieldsManager
	if err := c.get(ctx, *c.ServiceContent.CustomFieldsManager, []string{"field"}, &manager); err != nil {
		return nil, err
	}
	for _, f := range manager.Field {
		if f.ManagedObjectType == "" || f.ManagedObjectType == "VirtualMachine" {
			out.keys[f.Name] = f.Key
		}
	}
	if key, ok := out.keys[attributeName(j.site)]; ok {
		out.attribute = &label{key: key, ours: true}
	}
	err := c.tagging(ctx, func(m *tags.Manager) error { return out.read(ctx, m, j) })
	if out.category != nil && !out.category.ours && out.attribute != nil {
		out.attribute.ours = false // who made the category beforehand made this too
	}
	return out, err
}

func (l *labels) read(ctx context.Context, m *tags.Manager, j job) error {
	l.category, l.tag, l.others = nil, nil, false
	category, err := m.GetCategory(ctx, categoryID(j.site))
	if rest.IsStatusError(err, http.StatusNotFound) {
		return l.readOthers(ctx, m, j)
	}
	if err != nil {
		return err
	}
	l.category = &label{id: category.ID, ours: true}
	return l.readTags(ctx, m, j)
}

// readOthers looks for a category that an administrator made beforehand.
func (l *labels) readOthers(ctx context.Context, m *tags.Manager, j job) error {
	all, err := allCategories(ctx, m)
	if err != nil {
		return err
	}
	for _, category := range all {
		if category.Name == categoryName(j.site) {
			l.category = &label{id: category.ID}
			return l.readTags(ctx, m, j)
		}
	}
	return nil
}

func (l *labels) readTags(ctx context.Context, m *tags.Manager, j job) error {
	all, err := tagsIn(ctx, m, l.category.id)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Name == tagName(j) {
			l.tag = &label{id: t.ID, ours: t.ID == tagID(j)}
		} else {
			l.others = true
		}
	}
	if l.tag == nil {
		return nil
	}
	objects, err := m.ListAttachedObjects(ctx, l.tag.id)
	for _, o := range objects {
		l.tagged[o.Reference()] = true
	}
	return err
}

// makeAttribute defines the custom attribute.
func (c *client) makeAttribute(ctx context.Context, j job, l *labels) error {
	res, err := methods.AddCustomFieldDef(ctx, c, &types.AddCustomFieldDef{
		This: *c.ServiceContent.CustomFieldsManager, Name: attributeName(j.site), MoType: "VirtualMachine",
	})
	if err != nil {
		return err
	}
	l.attribute = &label{key: res.Returnval.Key, ours: true}
	return nil
}

func (c *client) makeCategory(ctx context.Context, j job, l *labels) error {
	return c.tagging(ctx, func(m *tags.Manager) error {
		id, err := m.CreateCategory(ctx, &tags.Category{
			Name: categoryName(j.site), CategoryID: categoryID(j.site), Cardinality: "MULTIPLE", AssociableTypes: []string{"VirtualMachine"},
			Description: "The clusters of the site " + j.site + ", made by Catamaran",
		})
		if err != nil {
			return err
		}
		l.category = &label{id: id, ours: true}
		return nil
	})
}

func (c *client) makeTag(ctx context.Context, j job, l *labels) error {
	return c.tagging(ctx, func(m *tags.Manager) error {
		id, err := m.CreateTag(ctx, &tags.Tag{
			Name: tagName(j), TagID: tagID(j), CategoryID: l.category.id,
			Description: "The machines of the " + string(j.cluster) + " cluster of the site " + j.site + ", made by Catamaran",
		})
		if err != nil {
			return err
		}
		l.tag = &label{id: id, ours: true}
		return nil
	})
}

// attributeValue is what the custom attribute of a machine says.
func attributeValue(j job, node string) string { return string(j.cluster) + "/" + node }

// setAttribute writes the custom attribute of a machine.
func (c *client) setAttribute(ctx context.Context, key int32, machine ref, value string) error {
	_, err := methods.SetField(ctx, c, &types.SetField{This: *c.ServiceContent.CustomFieldsManager, Entity: machine, Key: key, Value: value})
	return err
}

// attach tags machines, all in one call.
func (c *client) attach(ctx context.Context, tag string, machines []mo.Reference) error {
	return c.tagging(ctx, func(m *tags.Manager) error { return m.AttachTagToMultipleObjects(ctx, tag, machines) })
}

// isThere tells whether making something failed because somebody else was faster.
func isThere(err error) bool { return err != nil && strings.Contains(err.Error(), "already_exists") }
