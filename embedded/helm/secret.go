package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"
)

// What a Secret of ours carries. The digest is put on it last, when all that mount it run with it: without it whoever
// looks does the whole thing again.
const (
	LabelManagedBy     = "app.kubernetes.io/managed-by"
	ManagedBy          = "catamaran"
	AnnotationDigest   = LabelDigest
	AnnotationNotAfter = "catamaran.dev/not-after"
	// annotationRestarted is on the pod template of a workload that was restarted because a Secret changed.
	annotationRestarted = "catamaran.dev/restarted-for-secret"
)

// Secret is a Secret with its content.
type Secret struct {
	Namespace, Name string
	Type            corev1.SecretType
	Data            map[string][]byte
	// Digest and NotAfter (zero: it has no end) become annotations.
	Digest   string
	NotAfter time.Time
	// PodSecurity is for the namespace, as in Release.
	PodSecurity string
	// Await waits until restarted workloads are ready, for Timeout each.
	Await   bool
	Timeout time.Duration
}

// PutSecret makes or replaces a Secret, and its namespace where there is none. When it replaced one, all workloads of
// the namespace whose pods use it are restarted. A Secret that is not ours is refused. Errors do not show content.
func (c *Cluster) PutSecret(ctx context.Context, s Secret) error {
	err := c.putSecret(ctx, s)
	return marked(err, err)
}

func (c *Cluster) putSecret(ctx context.Context, s Secret) error {
	if err := c.ensureNamespace(ctx, s.Namespace, s.PodSecurity); err != nil {
		return err
	}
	where := s.Namespace + "/" + s.Name
	secrets := c.clients.CoreV1().Secrets(s.Namespace)
	have, err := secrets.Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking for Secret %s: %w", where, err)
	}
	there := err == nil
	if there && have.Labels[LabelManagedBy] != ManagedBy {
		return fmt.Errorf("the Secret %s is there and was not made by catamaran: remove it, or take its content into the inventory", where)
	}
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: s.Namespace,
			Labels: map[string]string{LabelManagedBy: ManagedBy}, Annotations: map[string]string{},
		},
		Type: s.Type, Data: s.Data,
	}
	if !s.NotAfter.IsZero() {
		object.Annotations[AnnotationNotAfter] = s.NotAfter.UTC().Format(time.RFC3339)
	}
	if there && have.Type != s.Type {
		// a Secret keeps its type for life
		if err := secrets.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}}); err != nil {
			return fmt.Errorf("replacing Secret %s: %w", where, err)
		}
	}
	if there && have.Type == s.Type {
		object.ResourceVersion = have.ResourceVersion
		_, err = secrets.Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	} else {
		_, err = secrets.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return fmt.Errorf("writing Secret %s: %w", where, err)
	}
	if there {
		if err := c.restartUsers(ctx, s); err != nil {
			return err
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{AnnotationDigest: s.Digest}}})
	if err != nil {
		return err
	}
	done, err := secrets.Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("marking Secret %s: %w", where, err)
	}
	if done.Annotations[AnnotationDigest] != s.Digest || len(done.Data) != len(s.Data) {
		return fmt.Errorf("the Secret %s is not as it was written: does something else write it?", where)
	}
	return nil
}

// restartUsers restarts the workloads whose pods use a Secret, and waits for them if it is asked to.
func (c *Cluster) restartUsers(ctx context.Context, s Secret) error {
	users, err := c.usersOf(ctx, s.Namespace, s.Name)
	if err != nil {
		return err
	}
	stamp := s.Name + " " + time.Now().UTC().Format(time.RFC3339Nano)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{annotationRestarted: stamp}},
	}}})
	if err != nil {
		return err
	}
	for _, u := range users {
		c.log(fmt.Sprintf("restarting %s %s, which uses the Secret %s", strings.ToLower(u.Mapping.GroupVersionKind.Kind), u.Name, s.Name))
		_, err := c.dynamic.Resource(u.Mapping.Resource).Namespace(u.Namespace).Patch(ctx, u.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
		if err != nil {
			return fmt.Errorf("restarting %s %s/%s: %w", u.Mapping.GroupVersionKind.Kind, u.Namespace, u.Name, err)
		}
	}
	if !s.Await || len(users) == 0 {
		return nil
	}
	return (&waiter{c.connection, c.log}).wait(ctx, users, s.Timeout)
}

// usersOf are the workloads of a namespace whose pods use a Secret.
func (c *Cluster) usersOf(ctx context.Context, namespace, secret string) (kube.ResourceList, error) {
	var out kube.ResourceList
	add := func(kind, resourceName, name string, pod corev1.PodSpec) {
		if !uses(pod, secret) {
			return
		}
		out = append(out, &resource.Info{Namespace: namespace, Name: name, Mapping: &meta.RESTMapping{
			Resource:         schema.GroupVersionResource{Group: appsv1.GroupName, Version: "v1", Resource: resourceName},
			GroupVersionKind: schema.GroupVersionKind{Group: appsv1.GroupName, Version: "v1", Kind: kind},
		}})
	}
	apps, all := c.clients.AppsV1(), metav1.ListOptions{}
	deployments, err := apps.Deployments(namespace).List(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("listing what uses the Secret %s: %w", secret, err)
	}
	for _, d := range deployments.Items {
		add("Deployment", "deployments", d.Name, d.Spec.Template.Spec)
	}
	sets, err := apps.StatefulSets(namespace).List(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("listing what uses the Secret %s: %w", secret, err)
	}
	for _, s := range sets.Items {
		add("StatefulSet", "statefulsets", s.Name, s.Spec.Template.Spec)
	}
	daemons, err := apps.DaemonSets(namespace).List(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("listing what uses the Secret %s: %w", secret, err)
	}
	for _, d := range daemons.Items {
		add("DaemonSet", "daemonsets", d.Name, d.Spec.Template.Spec)
	}
	return out, nil
}

// uses tells whether a pod mounts a Secret or has a variable of it.
func uses(pod corev1.PodSpec, secret string) bool {
	for _, v := range pod.Volumes {
		if v.Secret != nil && v.Secret.SecretName == secret {
			return true
		}
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(p corev1.VolumeProjection) bool {
			return p.Secret != nil && p.Secret.Name == secret
		}) {
			return true
		}
	}
	return slices.ContainsFunc(append(slices.Clone(pod.InitContainers), pod.Containers...), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == secret
		}) || slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool {
			return e.SecretRef != nil && e.SecretRef.Name == secret
		})
	})
}
