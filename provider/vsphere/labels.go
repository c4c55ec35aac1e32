package vsphere

// Tags and custom attributes of the site's own, which machines are given beside ours.

import (
	"context"
	"net/http"
	"strings"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
)

// own are the site's tags and attributes that the inventory names.
type own struct {
	tags   map[string]string       // the inventory's word: the tag's ID
	tagged map[string]map[ref]bool // by ID
	keys   map[string]int32        // of custom attributes by name
}

// readOwn finds the tags and attributes that machines of the inventory are to have. They must be there: they are not ours to make.
func (c *client) readOwn(ctx context.Context, s *survey) error {
	o := &own{tags: map[string]string{}, tagged: map[string]map[ref]bool{}, keys: s.labels.keys}
	s.own = o
	var words []string
	for _, w := range s.wishes {
		if w.shape == nil {
			continue
		}
		for name := range w.want.Attributes {
			if _, ok := o.keys[name]; !ok {
				return permanent("the node %s: there is no custom attribute %s for virtual machines: define it, or leave it out", w.node.Name, name)
			}
		}
		for _, t := range w.want.Tags {
			if _, ok := o.tags[t]; !ok {
				o.tags[t] = ""
				words = append(words, t)
			}
		}
	}
	if len(words) == 0 {
		return nil
	}
	return c.tagging(ctx, func(m *tags.Manager) error { return o.find(ctx, m, words) })
}

// find looks up tags by CATEGORY:NAME or ID, and what they are attached to: one call a tag.
func (o *own) find(ctx context.Context, m *tags.Manager, words []string) error {
	var categories []*tags.Category
	for _, word := range words {
		id := word
		if strings.HasPrefix(word, "urn:") {
			_, err := m.GetTag(ctx, word)
			if rest.IsStatusError(err, http.StatusNotFound) {
				return permanent("there is no tag %s", word)
			}
			if err != nil {
				return err
			}
		} else {
			if categories == nil {
				var err error
				if categories, err = allCategories(ctx, m); err != nil {
					return err
				}
			}
			var err error
			if id, err = tagNamed(ctx, m, categories, word); err != nil {
				return err
			}
		}
		objects, err := m.ListAttachedObjects(ctx, id)
		if err != nil {
			return err
		}
		o.tags[word], o.tagged[id] = id, map[ref]bool{}
		for _, x := range objects {
			o.tagged[id][x.Reference()] = true
		}
	}
	return nil
}

func tagNamed(ctx context.Context, m *tags.Manager, categories []*tags.Category, word string) (string, error) {
	category, name, ok := strings.Cut(word, ":")
	if !ok {
		return "", permanent("the tag %s: write CATEGORY:NAME, or its ID", word)
	}
	for _, c := range categories {
		if c.Name != category {
			continue
		}
		all, err := tagsIn(ctx, m, c.ID)
		if err != nil {
			return "", err
		}
		var names []string
		for _, t := range all {
			if t.Name == name {
				return t.ID, nil
			}
			names = append(names, t.Name)
		}
		return "", permanent("there is no tag %s in the category %s, only: %s", name, category, strings.Join(names, ", "))
	}
	return "", permanent("there is no tag category %s", category)
}

// missingTags are the site's own tags that a machine is to have and has not.
func (s *survey) missingTags(w *wish) []string {
	var out []string
	for _, word := range w.want.Tags {
		if id := s.own.tags[word]; w.have == nil || !s.own.tagged[id][w.have.ref] {
			out = append(out, id)
		}
	}
	return out
}

// missingNotes are the custom attributes of the site's own that a machine has not, or otherwise.
func (s *survey) missingNotes(w *wish) map[int32]string {
	out := map[int32]string{}
	for name, value := range w.want.Attributes {
		if key := s.own.keys[name]; w.have == nil || w.have.attributes[key] != value {
			out[key] = value
		}
	}
	return out
}

// allCategories and tagsIn are govmomi's own, but for the errors: those have lost their status, by which an expired session is told.
func allCategories(ctx context.Context, m *tags.Manager) ([]*tags.Category, error) {
	ids, err := m.ListCategories(ctx)
	if err != nil {
		return nil, err
	}
	return each(ctx, ids, m.GetCategory)
}

func tagsIn(ctx context.Context, m *tags.Manager, category string) ([]*tags.Tag, error) {
	ids, err := m.ListTagsForCategory(ctx, category)
	if err != nil {
		return nil, err
	}
	return each(ctx, ids, m.GetTag)
}

// each gets what is there of a list; something that was deleted since is left out.
func each[T any](ctx context.Context, ids []string, get func(context.Context, string) (*T, error)) ([]*T, error) {
	out := make([]*T, 0, len(ids))
	for _, id := range ids {
		one, err := get(ctx, id)
		if rest.IsStatusError(err, http.StatusNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}
