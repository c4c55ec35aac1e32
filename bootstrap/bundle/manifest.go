// Package bundle is the offline bundle: one file (or folder) that holds everything a site's nodes need, by digest.
// It builds, verifies, lists and reads bundles, and says what a machine still lacks.
package bundle

// What a manifest says it is.
const (
	APIVersion = "catamaran/v1alpha1"
	Kind       = "Bundle"
)

// Zstd is the only encoding of blobs.
const Zstd = "zstd"

// Manifest is bundle.json, the first entry of the tar archive (or a file in the folder). Blobs follow as
// blobs/sha256/<hex of the stored bytes>.
type Manifest struct {
	APIVersion string `json:"apiVersion"` // catamaran/v1alpha1
	Kind       string `json:"kind"`       // Bundle
	// Created is RFC 3339; left empty in reproducible builds.
	Created string `json:"created,omitempty"`
	Arch    string `json:"arch"` // GOARCH: amd64, arm64
	// Kubernetes is the version (without "v") whose binaries and images are inside.
	Kubernetes string  `json:"kubernetes"`
	Files      []File  `json:"files"`
	Images     []Image `json:"images"`
	Charts     []File  `json:"charts,omitempty"` // chart archives of the site's own
	Blobs      []Blob  `json:"blobs"`            // every blob once, sorted by digest
}

// File is a program or archive for the nodes.
type File struct {
	// Name is what plans refer to: kubeadm, kubelet, kubectl, containerd, containerd-shim-runc-v2, ctr, runc, etcdctl,
	// cni/bridge, cni/loopback, cni/portmap, cni/host-local, cni/flannel ...
	Name    string `json:"name"`
	Version string `json:"version"` // without "v"
	Digest  string `json:"digest"`  // sha256:... of the file as it is installed
	Size    int64  `json:"size"`    // bytes as installed
	Mode    uint32 `json:"mode"`
	Source  string `json:"source,omitempty"` // where it came from
}

// Image is a container image. Digest is its manifest's (single architecture).
type Image struct {
	Ref    string   `json:"ref"`    // registry.k8s.io/kube-apiserver:v1.37.2
	Digest string   `json:"digest"` // sha256:...
	Blobs  []string `json:"blobs"`  // digests of manifest, config and layers, in this order
}

// Blob is one stored piece. Content digests are of the bytes before our compression.
type Blob struct {
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`
	Encoding string `json:"encoding,omitempty"` // zstd or empty
	// Stored and StoredSize describe the bytes in the archive; equal to Digest and Size without encoding.
	Stored     string `json:"stored"`
	StoredSize int64  `json:"storedSize"`
}
