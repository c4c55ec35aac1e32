package embedded

import (
	_ "embed"
	"fmt"

	"sigs.k8s.io/yaml"
)

//go:embed images.lock
var lockFile []byte

// LockedImage is one image of the lock.
type LockedImage struct {
	// Ref is registry/repository:tag, as manifests name it.
	Ref string `json:"ref"`
	// Digest is sha256:... of the image (for several architectures: of their index); empty: not known yet. `bundle build` then
	// takes what the registry answers and writes it into the bundle's manifest.
	Digest string `json:"digest"`
	// UsedBy are the embedded charts whose manifests name it.
	UsedBy []string `json:"usedBy"`
}

// Lock returns every image that the embedded charts use, by reference.
func Lock() ([]LockedImage, error) {
	var lock struct {
		Images []LockedImage `json:"images"`
	}
	if err := yaml.UnmarshalStrict(lockFile, &lock); err != nil {
		return nil, fmt.Errorf("images.lock: %w", err)
	}
	return lock.Images, nil
}
