package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/releaseutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// fieldManager names us in managed fields.
const fieldManager = "catamaran"

// podSecurityLabels are the Pod Security admission labels of a namespace. Without a level nothing is enforced: the
// site's own charts decide what they need, the API server only warns and audits.
func podSecurityLabels(level string) map[string]string {
	labels := map[string]string{
		"pod-security.kubernetes.io/warn":  "restricted",
		"pod-security.kubernetes.io/audit": "restricted",
	}
	if level != "" {
		labels["pod-security.kubernetes.io/enforce"] = level
		labels["pod-security.kubernetes.io/warn"] = level
		labels["pod-security.kubernetes.io/audit"] = level
	}
	return labels
}

// ensureNamespace makes the namespace where there is none. One that we made keeps the labels we want; one that
// somebody else made is left alone.
func (c *Cluster) ensureNamespace(ctx context.Context, name, level string) error {
	namespaces := c.clients.CoreV1().Namespaces()
	labels := podSecurityLabels(level)
	labels[LabelManaged] = "true"
	have, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}},
			metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making namespace %s: %w", name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for namespace %s: %w", name, err)
	}
	if have.Labels[LabelManaged] != "true" || level == "" {
		return nil
	}
	for k, v := range labels {
		if have.Labels[k] == v {
			delete(labels, k)
		}
	}
	if len(labels) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	if _, err := namespaces.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("labelling namespace %s: %w", name, err)
	}
	return nil
}

// applyCRDs applies a chart's crds folder and waits until each is established. Helm would install them once, never
// upgrade them; we always apply and never prune, since deleting a CRD deletes every object of its kind.
func (c *Cluster) applyCRDs(ctx context.Context, crds []chart.CRD, timeout time.Duration) error {
	if len(crds) == 0 {
		return nil
	}
	resource := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	client := c.dynamic.Resource(resource)
	var names []string
	for _, file := range crds {
		for _, doc := range releaseutil.SplitManifests(string(file.File.Data)) {
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(doc), &object.Object); err != nil {
				return fmt.Errorf("%s: %w", file.Filename, err)
			}
			if object.GetKind() != "CustomResourceDefinition" {
				return fmt.Errorf("%s: a crds folder holds CustomResourceDefinitions only, not a %s", file.Filename, object.GetKind())
			}
			name := object.GetName()
			c.log("applying CRD " + name)
			if _, err := client.Apply(ctx, name, object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
				return fmt.Errorf("applying CRD %s: %w", name, err)
			}
			names = append(names, name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval / 4)
	defer ticker.Stop()
	for _, name := range names {
		for {
			object, err := client.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return fmt.Errorf("waiting for CRD %s: %w", name, err)
			}
			state := ReadyState(object)
			if state.Ready {
				break
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fmt.Errorf("CRD %s: %s: %w", name, state.Why, ctx.Err())
			}
		}
	}
	// the kinds are new to discovery
	c.mapper.Reset()
	return nil
}
