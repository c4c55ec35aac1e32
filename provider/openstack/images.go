package openstack

import (
	"context"
	"regexp"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// listImages lists the images of the project, and asks one by one for those that the inventory names by ID and that no list shows:
// hidden ones and the community's.
func (j *job) listImages(ctx context.Context, w *world) error {
	if err := list(ctx, "images", images.List(j.cloud.image, images.ListOpts{Limit: 1000}), images.ExtractImages, &w.images); err != nil {
		return err
	}
	for _, id := range j.unlisted(w.images) {
		image, err := images.Get(ctx, j.cloud.image, id).Extract()
		switch {
		case notFound(err), gophercloud.ResponseCodeIs(err, 403):
			// whoever needs it says that there is no such image
		case err != nil:
			return explain(ctx, "read the image "+id, err)
		default:
			w.images = append(w.images, *image)
		}
	}
	return nil
}

// unlisted are the IDs that the inventory names and a list lacks.
func (j *job) unlisted(listed []images.Image) []string {
	seen := map[string]bool{}
	for i := range listed {
		seen[listed[i].ID], seen[listed[i].Name] = true, true
	}
	id := regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	var out []string
	for i := range j.cluster.Nodes {
		if want := j.machine(&j.cluster.Nodes[i]).Image; !seen[want] && id.MatchString(want) {
			seen[want] = true
			out = append(out, want)
		}
	}
	return out
}
