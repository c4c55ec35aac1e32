package canary

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// Node is a machine of the workload cluster.
type Node interface {
	Name() string
	Run(ctx context.Context, c remote.Command) (remote.Result, error)
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// Workload is where canaries are fired.
type Workload struct {
	Client kubernetes.Interface
	// Node is a machine of the cluster, Address and SSHPort where its sshd listens.
	Node    Node
	Address string
	SSHPort int
	// Image is a container image with a shell; empty: one of Images that a node has.
	Image string
	// Namespace is made for the run and removed by Clean.
	Namespace string
}

// Channels are all channels of logs.
func (w *Workload) Channels() []Channel {
	return []Channel{
		{
			Name: "pod log", Deed: "a pod printed the marker", Selector: fmt.Sprintf("namespace=%q", w.Namespace),
			Fire: w.firePod,
			Is: func(record []byte, marker string) bool {
				var r struct{ Message, Namespace string }
				return json.Unmarshal(record, &r) == nil && r.Namespace == w.Namespace && strings.Contains(r.Message, marker)
			},
		},
		{
			Name: "audit", Deed: "a ConfigMap named as the marker was made and removed", Selector: `pod=""`,
			Fire: w.fireAudit, Is: isAudit,
		},
		{
			Name: "SSH login", Deed: "a login with the marker as user name was refused by " + w.nodeName(), Selector: `pod=""`,
			Fire: w.fireSSH, Is: isLogin,
		},
		{
			Name: "Falco", Deed: "a file named as the marker was written below /etc/kubernetes/pki of " + w.nodeName() + " and read",
			Fire: w.fireFalco, Is: isFalco,
		},
	}
}

func (w *Workload) nodeName() string {
	if w.Node == nil {
		return "a node"
	}
	return w.Node.Name()
}

// account is the service account of the pod.
const account = "canary"

// Prepare makes the namespace and chooses the image. Clean must be called after it, whatever it returns.
func (w *Workload) Prepare(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/managed-by": "catamaran",
	}}}
	if _, err := w.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the namespace %s: %w", w.Namespace, err)
	}
	// "default" is made by a controller some time later, on a busy cluster much later, and no pod is let in before
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}
	if _, err := w.Client.CoreV1().ServiceAccounts(w.Namespace).Create(ctx, sa, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the service account %s/%s: %w", w.Namespace, account, err)
	}
	if w.Image != "" {
		return nil
	}
	nodes, err := w.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	w.Image = chooseImage(nodes.Items)
	return nil
}

// CleanTimeout is how long Clean waits: a busy cluster takes minutes to end a pod and to look through all kinds of objects.
const CleanTimeout = 5 * time.Minute

// Clean removes the namespace with all that is in it, and waits until it is gone, at most CleanTimeout. The error names what
// holds it.
func (w *Workload) Clean(ctx context.Context) error { return w.clean(ctx, CleanTimeout) }

func (w *Workload) clean(ctx context.Context, within time.Duration) error {
	ns := w.Client.CoreV1().Namespaces()
	whole, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	if err := ns.Delete(whole, w.Namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the namespace %s: %w; remove it by hand", w.Namespace, err)
	}
	begin := time.Now()
	for {
		_, err := ns.Get(whole, w.Namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		select {
		case <-whole.Done():
			// what holds it is asked even where the caller was interrupted
			ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return fmt.Errorf("the namespace %s is still there %s after it was removed: %s; remove what holds it by hand",
				w.Namespace, time.Since(begin).Round(time.Second), w.holding(ask))
		case <-tick.C:
		}
	}
}

// holding says what keeps the namespace from going: what the API server says of it, and its pods.
func (w *Workload) holding(ctx context.Context) string {
	ns, err := w.Client.CoreV1().Namespaces().Get(ctx, w.Namespace, metav1.GetOptions{})
	if err != nil {
		return "what holds it could not be asked: " + err.Error()
	}
	var why []string
	for _, c := range ns.Status.Conditions {
		if c.Status == corev1.ConditionTrue && c.Message != "" {
			why = append(why, c.Message)
		}
	}
	pods, err := w.Client.CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		why = append(why, "its pods could not be asked: "+err.Error())
	} else {
		for _, p := range pods.Items {
			held := fmt.Sprintf("pod %s on node %s: %s", p.Name, p.Spec.NodeName, podState(&p))
			if len(p.Finalizers) > 0 {
				held += ", finalizers " + strings.Join(p.Finalizers, " ")
			}
			why = append(why, held)
		}
	}
	if len(why) == 0 {
		return "the API server names nothing that holds it (its controller manager may not have looked yet)"
	}
	return strings.Join(why, "; ")
}

// images with a shell that the platform brings to nodes, the best first.
func images() []string {
	return []string{"docker.io/library/busybox:", "registry.k8s.io/e2e-test-images/agnhost:", "docker.io/prom/prometheus:", "quay.io/prometheus/node-exporter:"}
}

// chooseImage finds an image that a node has; "" without any.
func chooseImage(nodes []corev1.Node) string {
	for _, want := range images() {
		for _, n := range nodes {
			for _, image := range n.Status.Images {
				for _, name := range image.Names {
					if strings.HasPrefix(name, want) && !strings.Contains(name, "@") {
						return name
					}
				}
			}
		}
	}
	return ""
}

// firePod runs a pod that prints the marker, and returns when it has.
func (w *Workload) firePod(ctx context.Context, marker string) error {
	if w.Image == "" {
		return fmt.Errorf("no node has an image with a shell (%s...): name one with --image", images()[0])
	}
	yes, no, uid := true, false, int64(65532)
	pods := w.Client.CoreV1().Pods(w.Namespace)
	pod, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: marker},
		Spec: corev1.PodSpec{
			// a runtime that could not start it (seen: runc on cgroup v1, "unable to freeze") is asked again
			RestartPolicy: corev1.RestartPolicyOnFailure, EnableServiceLinks: &no,
			ServiceAccountName: account, AutomountServiceAccountToken: &no,
			TerminationGracePeriodSeconds: new(int64),
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &uid, RunAsGroup: &uid,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "canary", Image: w.Image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command:   []string{"sh", "-c", `echo "catamaran: $MARKER"`},
				Env:       []corev1.EnvVar{{Name: "MARKER", Value: marker}},
				Resources: small(),
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make the pod: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		switch pod.Status.Phase {
		case corev1.PodSucceeded:
			return nil
		case corev1.PodFailed:
			return fmt.Errorf("the pod failed: %s (image %s; --image names another)", podState(pod), w.Image)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the pod did not run within a minute: %s", podState(pod))
		case <-tick.C:
		}
		seen, err := pods.Get(ctx, marker, metav1.GetOptions{})
		if err == nil {
			pod = seen
		} else if ctx.Err() == nil {
			return fmt.Errorf("look at the pod: %w", err)
		}
	}
}

// podState says what a pod waits for.
func podState(p *corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			return c.State.Waiting.Reason + " " + c.State.Waiting.Message
		}
		if t := c.State.Terminated; t != nil {
			return fmt.Sprintf("%s, exit code %d %s", t.Reason, t.ExitCode, t.Message)
		}
	}
	if p.Status.Reason != "" {
		return strings.TrimSpace(p.Status.Reason + " " + p.Status.Message)
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	return string(p.Status.Phase)
}

func (w *Workload) fireAudit(ctx context.Context, marker string) error {
	maps := w.Client.CoreV1().ConfigMaps(w.Namespace)
	if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: marker}}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the ConfigMap: %w", err)
	}
	if err := maps.Delete(ctx, marker, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("remove the ConfigMap: %w", err)
	}
	return nil
}

// isAudit recognises the audit event of the ConfigMap's making.
func isAudit(record []byte, marker string) bool {
	var r struct{ Message string }
	if json.Unmarshal(record, &r) != nil {
		return false
	}
	var e struct {
		Kind, Verb string
		ObjectRef  struct{ Resource, Name string }
	}
	return json.Unmarshal([]byte(r.Message), &e) == nil && e.Kind == "Event" && e.Verb == "create" &&
		e.ObjectRef.Resource == "configmaps" && e.ObjectRef.Name == marker
}

// fireSSH tries to sign in with a name and a key that nobody knows, from the node itself: so it needs no other way to the
// node than the one that is there, and works behind jump hosts.
func (w *Workload) fireSSH(ctx context.Context, marker string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	address := net.JoinHostPort(w.Address, strconv.Itoa(w.SSHPort))
	conn, err := w.Node.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it is thrown away
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	answered := false
	c, _, _, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: marker, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		// the connection comes out of the machine whose key was verified already, and nothing secret is said
		HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { answered = true; return nil },
	})
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%s let in %s with a key that nobody knows", w.nodeName(), marker), c.Close())
	case !answered || !strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("%s: the login was not refused but failed: %w", w.nodeName(), err)
	}
	return nil
}

// isLogin recognises what sshd says of a user that it does not know. The node's audit may name it too, so who says it counts.
func isLogin(record []byte, marker string) bool {
	var r struct{ Message, Identifier, Comm string }
	return json.Unmarshal(record, &r) == nil && strings.Contains(r.Message, marker) &&
		(strings.HasPrefix(r.Identifier, "sshd") || strings.HasPrefix(r.Comm, "sshd"))
}

// falcoScript leaves nothing behind. The name is that of a private key; the content is none.
const falcoScript = `set -eu
f=/etc/kubernetes/pki/%s.key
trap 'rm -f "$f"' EXIT
echo "this is no key" > "$f"
cat "$f" > /dev/null
`

func (w *Workload) fireFalco(ctx context.Context, marker string) error {
	_, err := w.Node.Run(ctx, remote.Command{Script: fmt.Sprintf(falcoScript, marker), Root: true})
	return err
}

// isFalco recognises a Falco alert about the file.
func isFalco(record []byte, marker string) bool {
	var r struct{ Message string }
	if json.Unmarshal(record, &r) != nil {
		return false
	}
	var alert struct{ Rule, Output string }
	return json.Unmarshal([]byte(r.Message), &alert) == nil && alert.Rule != "" && strings.Contains(alert.Output, marker)
}
