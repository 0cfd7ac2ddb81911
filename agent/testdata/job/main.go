// Command job is a job for an image that has nothing else in it.
package main

import (
	"fmt"
	"os"
)

func main() {
	groups, err := os.Getgroups()
	fmt.Println("groups", groups, err)
	dir, err := os.Getwd()
	fmt.Println("in", dir, err)
	fmt.Println("user", os.Getuid(), os.Getgid())
	fmt.Println("home", os.Getenv("HOME"), "job", os.Getenv("DSTACK_JOB_ID"))
	_, err = os.ReadDir("/dstack/.task")
	fmt.Println("task", err)
	profile, err := os.ReadFile("/dstack/profile")
	fmt.Println("profile", len(profile) > 0, err)
	os.Exit(7)
}
