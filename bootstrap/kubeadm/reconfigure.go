package kubeadm

// Reconfiguration is the configuration with which the phases of `kubeadm init` are run again on a control plane that is
// a member already. It holds no secret.
func Reconfiguration(in Input) ([]byte, error) {
	init := InitConfiguration{
		TypeMeta:         TypeMeta{apiVersion, "InitConfiguration"},
		NodeRegistration: in.registration(),
		LocalAPIEndpoint: APIEndpoint{in.Address, BindPort},
	}
	return documents(init, in.cluster(), in.kubelet(), in.proxy())
}
