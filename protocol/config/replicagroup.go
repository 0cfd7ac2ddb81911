package config

// Over gives the fields that the replicas of the group have in common with the
// service, with what the group sets for itself.
func (g ReplicaGroup) Over(base RunBase) RunBase {
	base.Resources = g.Resources
	override(&base.Image, g.Image)
	override(&base.Python, g.Python)
	override(&base.NVCC, g.NVCC)
	override(&base.Docker, g.Docker)
	if g.Privileged != nil {
		base.Privileged = *g.Privileged
	}
	return base
}

func override[T any](value **T, by *T) {
	if by != nil {
		*value = by
	}
}
