package helm

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// State is what an object's own status says about it.
type State struct {
	Ready bool
	// Why says what is missing, such as "1 of 2 pods are available".
	Why string
	// Final is set when waiting longer can not help, such as for a failed job.
	Final bool
}

func ready() State                         { return State{Ready: true} }
func notYet(format string, a ...any) State { return State{Why: fmt.Sprintf(format, a...)} }
func hopeless(format string, a ...any) State {
	return State{Why: fmt.Sprintf(format, a...), Final: true}
}

// ReadyState judges an object as it is in the cluster. All of a workload's pods must be available, of the newest
// template: a rolling update that may leave one pod out is not done before that pod is back. Kinds without a notion of
// readiness are ready when they exist.
func ReadyState(u *unstructured.Unstructured) State {
	group := u.GroupVersionKind().Group
	switch group + "/" + u.GetKind() {
	case "apps/Deployment":
		return typed(u, deploymentState)
	case "apps/DaemonSet":
		return typed(u, daemonSetState)
	case "apps/StatefulSet":
		return typed(u, statefulSetState)
	case "apps/ReplicaSet":
		return typed(u, func(rs *appsv1.ReplicaSet) State {
			return counted(rs.Generation, rs.Status.ObservedGeneration, replicas(rs.Spec.Replicas), rs.Status.AvailableReplicas)
		})
	case "/ReplicationController":
		return typed(u, func(rc *corev1.ReplicationController) State {
			return counted(rc.Generation, rc.Status.ObservedGeneration, replicas(rc.Spec.Replicas), rc.Status.AvailableReplicas)
		})
	case "/Pod":
		return typed(u, podState)
	case "batch/Job":
		return typed(u, jobState)
	case "/PersistentVolumeClaim":
		return typed(u, func(c *corev1.PersistentVolumeClaim) State {
			if c.Status.Phase == corev1.ClaimBound {
				return ready()
			}
			return notYet("the claim is %s", orNew(string(c.Status.Phase)))
		})
	case "/Service":
		return typed(u, serviceState)
	case "/Namespace":
		return typed(u, func(n *corev1.Namespace) State {
			if n.Status.Phase == corev1.NamespaceTerminating {
				return notYet("the namespace is being deleted")
			}
			return ready()
		})
	case "apiextensions.k8s.io/CustomResourceDefinition":
		return condition(u, "Established")
	case "apiregistration.k8s.io/APIService":
		return condition(u, "Available")
	case "templates.gatekeeper.sh/ConstraintTemplate":
		return constraintTemplateState(u)
	}
	return ready()
}

// constraintTemplateState: a constraint can be written once Gatekeeper has made its kind.
func constraintTemplateState(u *unstructured.Unstructured) State {
	pods, _, _ := unstructured.NestedSlice(u.Object, "status", "byPod")
	for _, entry := range pods {
		pod, _ := entry.(map[string]any)
		if problems, _ := pod["errors"].([]any); len(problems) > 0 {
			return notYet("Gatekeeper refuses it: %v", problems[0])
		}
	}
	if created, _, _ := unstructured.NestedBool(u.Object, "status", "created"); !created {
		return notYet("Gatekeeper has not made its kind of constraint yet")
	}
	return ready()
}

func typed[T any](u *unstructured.Unstructured, judge func(*T) State) State {
	var t T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &t); err != nil {
		return hopeless("its status can not be read: %v", err)
	}
	return judge(&t)
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func orNew(phase string) string {
	if phase == "" {
		return "new"
	}
	return phase
}

func counted(generation, observed int64, want, available int32) State {
	if observed < generation {
		return notYet("its controller has not seen the change yet")
	}
	if available < want {
		return notYet("%d of %d pods are available", available, want)
	}
	return ready()
}

func deploymentState(d *appsv1.Deployment) State {
	want := replicas(d.Spec.Replicas)
	switch {
	case d.Status.ObservedGeneration < d.Generation:
		return notYet("its controller has not seen the change yet")
	case d.Status.UpdatedReplicas < want:
		return notYet("%d of %d pods are of the newest template", d.Status.UpdatedReplicas, want)
	case d.Status.Replicas > d.Status.UpdatedReplicas:
		return notYet("%d pods of an older template remain", d.Status.Replicas-d.Status.UpdatedReplicas)
	case d.Status.AvailableReplicas < want:
		return notYet("%d of %d pods are available", d.Status.AvailableReplicas, want)
	}
	return ready()
}

func daemonSetState(d *appsv1.DaemonSet) State {
	want := d.Status.DesiredNumberScheduled
	switch {
	case d.Status.ObservedGeneration < d.Generation:
		return notYet("its controller has not seen the change yet")
	case d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType && d.Status.UpdatedNumberScheduled < want:
		return notYet("on %d of %d nodes the pod is of the newest template", d.Status.UpdatedNumberScheduled, want)
	case d.Status.NumberAvailable < want:
		return notYet("on %d of %d nodes the pod is available", d.Status.NumberAvailable, want)
	}
	return ready()
}

func statefulSetState(s *appsv1.StatefulSet) State {
	want := replicas(s.Spec.Replicas)
	updated := want
	if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		updated = max(0, want-*r.Partition)
	}
	switch {
	case s.Status.ObservedGeneration < s.Generation:
		return notYet("its controller has not seen the change yet")
	case s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType && s.Status.UpdatedReplicas < updated:
		return notYet("%d of %d pods are of the newest template", s.Status.UpdatedReplicas, updated)
	case s.Status.ReadyReplicas < want:
		return notYet("%d of %d pods are ready", s.Status.ReadyReplicas, want)
	}
	return ready()
}

func podState(p *corev1.Pod) State {
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		return ready()
	case corev1.PodFailed:
		return hopeless("the pod failed: %s", p.Status.Message)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return ready()
		}
	}
	return notYet("the pod is %s, not ready", orNew(string(p.Status.Phase)))
}

func jobState(j *batchv1.Job) State {
	if j.Spec.Suspend != nil && *j.Spec.Suspend {
		return ready()
	}
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return ready()
		case batchv1.JobFailed:
			return hopeless("the job failed: %s", c.Message)
		}
	}
	return notYet("the job has not ended (%d active, %d failed)", j.Status.Active, j.Status.Failed)
}

func serviceState(s *corev1.Service) State {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Spec.ExternalIPs) > 0 || len(s.Status.LoadBalancer.Ingress) > 0 {
		return ready()
	}
	return notYet("no load balancer has given it an address")
}

func condition(u *unstructured.Unstructured, kind string) State {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, entry := range conditions {
		c, _ := entry.(map[string]any)
		if c["type"] != kind {
			continue
		}
		if c["status"] == "True" {
			return ready()
		}
		return notYet("it is not %s: %v", kind, c["message"])
	}
	return notYet("it is not %s", kind)
}
