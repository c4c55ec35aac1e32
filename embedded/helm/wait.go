package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

// How often objects are asked for while they become ready, and how often the log says what is waited for although
// nothing changed.
const (
	pollInterval  = time.Second
	remindAfter   = 30 * time.Second
	diagnoseLimit = 20 * time.Second
	// requestLimit bounds one look at an object. It is not cut short by the end of the wait: a request that was cut off would
	// hide what the object lacks.
	requestLimit = 10 * time.Second
)

// Unready is one object that did not become ready.
type Unready struct {
	Kind, Namespace, Name string
	// Why is what its status says.
	Why string
	// Details are what was found out about its pods: conditions, events, last lines of logs.
	Details []string
}

// NotReadyError says which objects did not become ready in time, and why.
type NotReadyError struct {
	After   time.Duration
	Objects []Unready
	// Err is why waiting ended.
	Err error
}

// Error has one line an object, details below it.
func (e *NotReadyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "not ready after %s:", e.After.Round(time.Second))
	for _, o := range e.Objects {
		fmt.Fprintf(&b, "\n  %s %s: %s", o.Kind, o.key(), o.Why)
		for _, d := range o.Details {
			fmt.Fprintf(&b, "\n    %s", strings.ReplaceAll(d, "\n", "\n    "))
		}
	}
	return b.String()
}

// Unwrap returns why waiting ended.
func (e *NotReadyError) Unwrap() error { return e.Err }

func (o Unready) key() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// waiter waits until everything a release consists of is ready.
type waiter struct {
	*connection
	log func(string)
}

// wait returns nil when all resources are ready, a *NotReadyError when timeout passed or waiting is hopeless, and
// ctx's error when ctx ended.
func (w *waiter) wait(ctx context.Context, resources kube.ResourceList, timeout time.Duration) error {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pending := append(kube.ResourceList(nil), resources...)
	said, saidAt := "", begin
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		var failure error // of this round: an API that answers again has not failed
		var unready []Unready
		var left kube.ResourceList
		final := false
		for _, info := range pending {
			state, err := w.state(ctx, info)
			if err != nil {
				failure = err
				state = notYet("it can not be read: %v", err)
			}
			if state.Ready {
				continue
			}
			left = append(left, info)
			final = final || state.Final
			unready = append(unready, Unready{Kind: info.Mapping.GroupVersionKind.Kind, Namespace: info.Namespace, Name: info.Name, Why: state.Why})
		}
		if len(left) == 0 {
			// what was ready a while ago may have fallen over since
			if len(pending) == len(resources) {
				return nil
			}
			pending = append(kube.ResourceList(nil), resources...)
			continue
		}
		pending = left
		if line := waitingFor(unready); line != said || time.Since(saidAt) > remindAfter {
			w.log(line)
			said, saidAt = line, time.Now()
		}
		if final {
			return w.explain(ctx, begin, unready, errors.New("waiting can not help"))
		}
		select {
		case <-ticker.C:
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if failure == nil {
				failure = limited.Err()
			}
			return w.explain(ctx, begin, unready, failure)
		}
	}
}

func waitingFor(unready []Unready) string {
	parts := make([]string, 0, len(unready))
	for _, u := range unready {
		parts = append(parts, fmt.Sprintf("%s %s: %s", strings.ToLower(u.Kind), u.Name, u.Why))
	}
	return "waiting: " + strings.Join(parts, "; ")
}

func (w *waiter) explain(ctx context.Context, begin time.Time, unready []Unready, err error) error {
	after := time.Since(begin)
	ctx, cancel := context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	d := diagnosis{w.clients}
	for i := range unready {
		unready[i].Details = d.details(ctx, unready[i])
	}
	return &NotReadyError{After: after, Objects: unready, Err: err}
}

// state fetches an object and judges it.
func (w *waiter) state(ctx context.Context, info *resource.Info) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	object, err := w.dynamic.Resource(info.Mapping.Resource).Namespace(info.Namespace).Get(ctx, info.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return notYet("it is not there"), nil
	}
	if err != nil {
		return State{}, err
	}
	state := ReadyState(object)
	if !state.Ready && info.Mapping.GroupVersionKind.GroupKind().String() == "PersistentVolumeClaim" {
		waits, err := w.waitsForConsumer(ctx, object)
		if err != nil {
			return State{}, err
		}
		if waits {
			// bound once a pod wants it; that pod's readiness covers it
			return ready(), nil
		}
	}
	return state, nil
}

// waitsForConsumer says whether a claim's storage class binds only when a pod uses the claim.
func (w *waiter) waitsForConsumer(ctx context.Context, claim *unstructured.Unstructured) (bool, error) {
	name, given, _ := unstructured.NestedString(claim.Object, "spec", "storageClassName")
	classes, err := w.clients.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	for _, c := range classes.Items {
		isDefault := c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true"
		if c.Name == name || !given && isDefault {
			return c.VolumeBindingMode != nil && *c.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer, nil
		}
	}
	return false, nil
}
