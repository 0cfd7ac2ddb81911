// Package offers matches what a job requires with the instances that exist.
// It is pure: rows in, ordered offers out, and for each instance that does
// not fit the reason why, so that "no offers" can always be explained.
package offers
