package reason

// Wait is what a run or job waits for, or does, now.
type Wait string

// What runs and jobs wait for.
const (
	WaitSchedule Wait = "schedule"
	WaitRetry    Wait = "retry"
	WaitRequests Wait = "requests"
	WaitServer   Wait = "server"
	WaitRoom     Wait = "room"
	WaitMachine  Wait = "machine"
	WaitBoot     Wait = "boot"
	WaitHost     Wait = "host"
	WaitNodes    Wait = "nodes"
	WaitVolume   Wait = "volume"
	WaitPull     Wait = "pull"
	WaitStart    Wait = "start"
	WaitStop     Wait = "stop"
	Runs         Wait = "runs"
)

// Waiting explains what something waits for.
func Waiting(w Wait) (Sentence, bool) {
	s, ok := waits()[w]
	return s, ok
}

func waits() map[Wait]Sentence {
	return map[Wait]Sentence{
		WaitSchedule: {"it waits for the next time of its schedule", "Nothing is to be done; stop it to end the schedule."},
		WaitRetry:    {"it waits for its next attempt", "See why the last one ended below; it begins earlier when room is made."},
		WaitRequests: {"it wants no replicas now", "Set `replicas` to have some."},
		WaitServer:   {"the server is about to look for a place for it", "Wait a moment."},
		WaitRoom:     {"it waits for a host that is being prepared", "Look at the hosts with `dstack fleet -v`."},
		WaitMachine:  {"a machine is being asked for at a cloud", "`dstack event` shows what was asked for and what the cloud said."},
		WaitBoot:     {"its machine is starting", "`dstack event` shows how far it is."},
		WaitHost:     {"it has an instance, which has not accepted it yet", "Look at the instance with `dstack fleet -v` if this takes long."},
		WaitNodes:    {"it waits for other nodes of its replica", "Look at the other jobs below."},
		WaitVolume:   {"it waits for a volume that is in use", "It starts when the volume is free; `dstack volume list -v` shows where it is attached."},
		WaitPull:     {"its host pulls the image", "`dstack ps` shows how far it is; a smaller image, or a registry nearby, is faster."},
		WaitStart:    {"its container is being started", "Wait a moment."},
		WaitStop:     {"it is being stopped, and gets the time of `stop_duration` for that", "`dstack stop -x` ends it at once."},
		Runs:         {"it runs", "Read its output with `dstack logs`."},
	}
}
