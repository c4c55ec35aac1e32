package embedded

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The first part of a tag becomes the label source, by which dashboards and rules find what they show.
func TestSources(t *testing.T) {
	t.Parallel()
	conf := data(t, rendered(t, "fluentd", nil), "fluent.conf")
	var tags []string
	for _, m := range regexp.MustCompile(`(?m)^\s+tag (\S+)$`).FindAllStringSubmatch(conf, -1) {
		tags = append(tags, m[1])
	}
	assert.Equal(t, []string{"containers", "falco", "trivy", "audit", "auth", "journal", "auth", "journal"}, tags)
}
