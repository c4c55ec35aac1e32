package helm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestReadyState(t *testing.T) {
	t.Parallel()
	const deployment, daemonSet, statefulSet = "apiVersion: apps/v1\nkind: Deployment\n", "apiVersion: apps/v1\nkind: DaemonSet\n", "apiVersion: apps/v1\nkind: StatefulSet\n"
	const pod, job = "apiVersion: v1\nkind: Pod\n", "apiVersion: batch/v1\nkind: Job\n"
	cases := map[string]struct {
		object string
		why    string // empty: ready
		final  bool
	}{
		"deployment":                      {deployment + "spec: {replicas: 2}\nstatus: {replicas: 2, updatedReplicas: 2, availableReplicas: 2}", "", false},
		"deployment, one by default":      {deployment + "status: {replicas: 1, updatedReplicas: 1, availableReplicas: 1}", "", false},
		"deployment, new":                 {deployment, "0 of 1 pods are of the newest template", false},
		"deployment, not seen":            {deployment + "metadata: {generation: 2}\nspec: {replicas: 1}\nstatus: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1}", "its controller has not seen the change yet", false},
		"deployment, old pods":            {deployment + "spec: {replicas: 2}\nstatus: {replicas: 3, updatedReplicas: 2, availableReplicas: 3}", "1 pods of an older template remain", false},
		"deployment, one may be missing":  {deployment + "spec: {replicas: 4}\nstatus: {replicas: 4, updatedReplicas: 4, availableReplicas: 3}", "3 of 4 pods are available", false},
		"deployment, scaled to none":      {deployment + "spec: {replicas: 0}", "", false},
		"daemon set":                      {daemonSet + "status: {desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3}", "", false},
		"daemon set, single node":         {daemonSet + "status: {desiredNumberScheduled: 1, updatedNumberScheduled: 1, numberAvailable: 0}", "on 0 of 1 nodes the pod is available", false},
		"daemon set, not seen":            {daemonSet + "metadata: {generation: 1}", "its controller has not seen the change yet", false},
		"daemon set, old pods":            {daemonSet + "status: {desiredNumberScheduled: 3, updatedNumberScheduled: 1, numberAvailable: 3}", "on 1 of 3 nodes the pod is of the newest template", false},
		"daemon set, updated by hand":     {daemonSet + "spec: {updateStrategy: {type: OnDelete}}\nstatus: {desiredNumberScheduled: 3, numberAvailable: 3}", "", false},
		"stateful set":                    {statefulSet + "spec: {replicas: 2}\nstatus: {updatedReplicas: 2, readyReplicas: 2}", "", false},
		"stateful set, not ready":         {statefulSet + "spec: {replicas: 2}\nstatus: {updatedReplicas: 2, readyReplicas: 1}", "1 of 2 pods are ready", false},
		"stateful set, old pods":          {statefulSet + "spec: {replicas: 2}\nstatus: {updatedReplicas: 1, readyReplicas: 2}", "1 of 2 pods are of the newest template", false},
		"stateful set, held back in part": {statefulSet + "spec: {replicas: 3, updateStrategy: {rollingUpdate: {partition: 2}}}\nstatus: {updatedReplicas: 1, readyReplicas: 3}", "", false},
		"replica set":                     {"apiVersion: apps/v1\nkind: ReplicaSet\nstatus: {availableReplicas: 0}", "0 of 1 pods are available", false},
		"replication controller":          {"apiVersion: v1\nkind: ReplicationController\nspec: {replicas: 1}\nstatus: {availableReplicas: 1}", "", false},
		"pod":                             {pod + "status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}", "", false},
		"pod, done":                       {pod + "status: {phase: Succeeded}", "", false},
		"pod, starting":                   {pod + "status: {phase: Pending}", "the pod is Pending, not ready", false},
		"pod, failed":                     {pod + "status: {phase: Failed, message: out of memory}", "the pod failed: out of memory", true},
		"job":                             {job + "status: {conditions: [{type: Complete, status: 'True'}]}", "", false},
		"job, running":                    {job + "status: {active: 1, failed: 2}", "the job has not ended (1 active, 2 failed)", false},
		"job, failed":                     {job + "status: {conditions: [{type: Failed, status: 'True', message: gave up}]}", "the job failed: gave up", true},
		"job, failing is not true":        {job + "status: {active: 1, conditions: [{type: Failed, status: 'False'}]}", "the job has not ended (1 active, 0 failed)", false},
		"job, suspended":                  {job + "spec: {suspend: true}", "", false},
		"claim":                           {"apiVersion: v1\nkind: PersistentVolumeClaim\nstatus: {phase: Bound}", "", false},
		"claim, pending":                  {"apiVersion: v1\nkind: PersistentVolumeClaim\n", "the claim is new", false},
		"service":                         {"apiVersion: v1\nkind: Service\n", "", false},
		"load balancer":                   {"apiVersion: v1\nkind: Service\nspec: {type: LoadBalancer}\nstatus: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}", "", false},
		"load balancer, no address":       {"apiVersion: v1\nkind: Service\nspec: {type: LoadBalancer}", "no load balancer has given it an address", false},
		"namespace, going":                {"apiVersion: v1\nkind: Namespace\nstatus: {phase: Terminating}", "the namespace is being deleted", false},
		"CRD":                             {"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nstatus: {conditions: [{type: Established, status: 'True'}]}", "", false},
		"CRD, refused":                    {"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nstatus: {conditions: [{type: Established, status: 'False', message: names clash}]}", "it is not Established: names clash", false},
		"API service, new":                {"apiVersion: apiregistration.k8s.io/v1\nkind: APIService\n", "it is not Available", false},
		"a kind of somebody else's":       {"apiVersion: boats.example.org/v1\nkind: Deployment\nspec: {replicas: 5}", "", false},
		"a status that is none":           {deployment + "status: hello", "its status can not be read", true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &unstructured.Unstructured{}
			require.NoError(t, yaml.Unmarshal([]byte(c.object), &u.Object))
			state := ReadyState(u)
			assert.Equal(t, c.why == "", state.Ready, state.Why)
			assert.Contains(t, state.Why, c.why)
			assert.Equal(t, c.final, state.Final)
		})
	}
}

func TestNotReadyError(t *testing.T) {
	t.Parallel()
	err := &NotReadyError{After: 90e9, Objects: []Unready{
		{Kind: "Deployment", Namespace: "n", Name: "a", Why: "0 of 1 pods are available", Details: []string{"pod a-1: CrashLoopBackOff", "its last lines:\n  panic"}},
		{Kind: "APIService", Name: "b", Why: "it is not Available"},
	}}
	assert.Equal(t, `not ready after 1m30s:
  Deployment n/a: 0 of 1 pods are available
    pod a-1: CrashLoopBackOff
    its last lines:
      panic
  APIService b: it is not Available`, err.Error())
}
