package vsphere

import (
	"testing"
	"time"

	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		Creates: true, Patience: 2 * time.Minute, World: func(t testing.TB) providertest.World { return newCloud(t) },
	})
}
