package helm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRender(t *testing.T) {
	t.Parallel()
	c := load(t,
		text("values.yaml", "count: 1\nimage: a:1\n"),
		text("crds/x.yaml", "kind: CustomResourceDefinition\nmetadata: {name: x}\n"),
		text("templates/NOTES.txt", "hello"),
		text("templates/a.yaml", `
kind: Pod
metadata:
  name: "{{ .Release.Name }}"
  namespace: "{{ .Release.Namespace }}"
  annotations:
    count: "{{ .Values.count }}"
    kube: {{ .Capabilities.KubeVersion.Version }}
    boats: "{{ .Capabilities.APIVersions.Has "boats/v1" }}"
    catamaran.dev/images: "helper:1, helper:2"
spec:
  initContainers: [{image: init:1}]
  containers: [{image: "{{ .Values.image }}"}, {image: "{{ .Values.image }}"}]
  volumes: [{image: {reference: volume:1}}]
`),
		text("templates/job.yaml", "kind: Job\nmetadata: {name: h, annotations: {helm.sh/hook: pre-install}}\nspec: {template: {spec: {containers: [{image: hook:1}]}}}\n"),
		text("templates/test.yaml", "kind: Pod\nmetadata: {name: t, annotations: {helm.sh/hook: test}}\nspec: {containers: [{image: test:1}]}\n"))
	o := RenderOptions{Name: "one", Namespace: "two", KubeVersion: "1.37.2", APIVersions: []string{"boats/v1"}, Values: map[string]any{"image": "b:2", "count": 10000000}}
	r, err := c.Render(o)
	require.NoError(t, err)
	assert.Equal(t, []string{"b:2", "helper:1", "helper:2", "hook:1", "init:1", "volume:1"}, r.Images)
	for _, part := range []string{`name: "one"`, `namespace: "two"`, `count: "10000000"`, "kube: v1.37.2", `boats: "true"`} {
		assert.Contains(t, r.Manifest, part)
	}
	for _, part := range []string{"hook:1", "test:1", "hello", "CustomResourceDefinition"} {
		assert.NotContains(t, r.Manifest, part)
	}
	for range 10 {
		again, err := c.Render(o)
		require.NoError(t, err)
		require.Equal(t, r, again)
	}
	_, err = c.Render(RenderOptions{Name: "one", Namespace: "two", KubeVersion: "new"})
	require.ErrorContains(t, err, `kubernetes version "new"`)
	o.KubeVersion = "1.20.0"
	old := load(t, text("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\nkubeVersion: '>=1.35.0-0'\n"))
	_, err = old.Render(o)
	require.ErrorContains(t, err, ">=1.35.0-0")
	_, err = load(t, text("templates/a.yaml", "a: [")).Render(RenderOptions{Name: "a", Namespace: "a", KubeVersion: "1.37.2"})
	require.Error(t, err)
}

func TestDiff(t *testing.T) {
	t.Parallel()
	secret := func(v string) string {
		return "\n---\nkind: Secret\nmetadata: {name: s}\nstringData: {password: " + v + "}\n"
	}
	before := "kind: ConfigMap\nmetadata: {name: a, namespace: ns}\ndata: {x: '1', z: '1'}\n---\nkind: ConfigMap\nmetadata: {name: gone}\n" + secret("Canary_1")
	same, err := Diff(before, secret("Canary_1")[5:]+"---\nkind: ConfigMap\nmetadata:\n  namespace: ns\n  name: a\ndata: {z: '1', x: \"1\"} # comment\n---\n{kind: ConfigMap, metadata: {name: gone}}\n")
	require.NoError(t, err)
	assert.Empty(t, same, "order, style and comments mean nothing")

	diff, err := Diff(before, "kind: ConfigMap\nmetadata: {name: a, namespace: ns}\ndata: {x: '2', z: '1'}\n---\nkind: ConfigMap\nmetadata: {name: new}\n"+secret("Canary_2"))
	require.NoError(t, err)
	for _, part := range []string{
		"--- configmap/ns/a\n+++ configmap/ns/a", "-  x: \"1\"\n+  x: \"2\"", "--- configmap/gone\n+++ /dev/null", "--- /dev/null\n+++ configmap/new", "-  password: sha256:", "+  password: sha256:",
	} {
		assert.Contains(t, diff, part)
	}
	assert.NotContains(t, diff, "Canary")
	_, err = Diff("a: [", "")
	assert.ErrorContains(t, err, "no YAML")
}

func TestRedactor(t *testing.T) {
	t.Parallel()
	r := NewRedactor(map[string]any{
		"password": "Tr0ub4dor", "user": map[string]any{"key": "line one of it\nline two of it"}, "list": []any{map[string]any{"token": "Tr0ub4dor-longer"}},
		"short": "eth0", "image": "registry.example.org/app:1", "quoted": `say "please"`, "flag": true,
	}, map[string]any{"image": "registry.example.org/app:1"})
	cases := map[string]string{
		"password=Tr0ub4dor!":                 "password=<value of password>!",
		"in base64 VHIwdWI0ZG9y":              "in base64 <value of password>",
		"the longer one Tr0ub4dor-longer":     "the longer one <value of list[0].token>",
		"a log with line two of it":           "a log with <value of user.key>",
		`"line one of it\nline two of it"`:    `"<value of user.key>"`,
		`he said "say \"please\""`:            `he said "<value of quoted>"`,
		"eth0 and registry.example.org/app:1": "eth0 and registry.example.org/app:1",
	}
	for in, want := range cases {
		assert.Equal(t, want, r.Text(in))
	}
	require.NoError(t, r.Error(nil))
	plain := &NotReadyError{Err: assert.AnError}
	assert.Same(t, plain, r.Error(plain), "an error without a value stays what it is")
	hidden := r.Error(&NotReadyError{Objects: []Unready{{Kind: "Pod", Name: "x", Why: "Tr0ub4dor"}}, Err: assert.AnError})
	assert.Contains(t, hidden.Error(), "Pod x: <value of password>")
	require.ErrorIs(t, hidden, assert.AnError)
	var showing *NotReadyError
	assert.NotErrorAs(t, hidden, &showing, "what it wraps would show the value")
	var none *Redactor
	assert.Equal(t, "Tr0ub4dor", none.Text("Tr0ub4dor"))
}
