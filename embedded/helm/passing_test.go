package helm

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestIsPassing(t *testing.T) {
	t.Parallel()
	kind := schema.GroupResource{Resource: "deployments"}
	for _, err := range []error{
		errors.New("query: failed to query with labels: etcdserver: leader changed"),
		fmt.Errorf("get: %w", syscall.ECONNREFUSED),
		apierrors.NewServerTimeout(kind, "get", 1),
		apierrors.NewServiceUnavailable("starting"),
	} {
		assert.True(t, IsPassing(fmt.Errorf("step: %w", marked(errors.New("hidden"), err))), err)
	}
	for _, err := range []error{
		nil,
		errors.New("Deployment is invalid: must be less than or equal to memory limit"),
		apierrors.NewForbidden(kind, "x", errors.New("no")),
		// what a pod says of its own connections
		fmt.Errorf("installing: %w", &NotReadyError{Objects: []Unready{{Kind: "Pod", Details: []string{"dial: connection refused"}}}}),
	} {
		assert.False(t, IsPassing(marked(err, err)), "%v", err)
	}
}
