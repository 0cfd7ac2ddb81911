// Package aws rents machines of Amazon EC2 (shared spec: backends.md 3.1).
//
// # Images
//
// A machine without GPUs gets the newest Ubuntu 24.04 of Canonical (account
// 099720109477, ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-*-server-*), one
// with NVIDIA GPUs the newest "Deep Learning Base OSS Nvidia Driver GPU AMI
// (Ubuntu 24.04)" of Amazon (account 898082745236), which has the driver,
// Docker and the container toolkit. The configuration's os_images take their
// place.
//
// # Tokens and zones
//
// A wish goes to EC2 with its token as client token in every zone, so that EC2
// itself refuses a second machine, whichever answer was lost and whichever zone
// has room again. Should EC2 hold a token for used up although a zone refused
// the machine in the same call, the zones that are left are named in the error
// (Zones): they get a wish of its own, whose token is committed first. A
// machine is looked for before it is asked for.
//
// # Permissions
//
// What users of 0.22.5 have granted (backends.md 1.10) suffices. These are
// asked for besides, and go without: ec2:DescribeSpotPriceHistory (a spot
// machine is then shown with the price on demand, which it never exceeds),
// ec2:DescribeInstanceTypeOfferings (zones of machine types), pricing:GetProducts
// (prices of the region instead of those of us-east-1) and
// sts:DecodeAuthorizationMessage (what exactly is missing). Prices name the
// permission that they lack.
//
// # Machine types
//
// Those of the table in shapes.go, and of experimental_instance_types as far as
// they have no accelerators but NVIDIA's and the Pricing API tells their price.
//
// # What the double does not check
//
// The contract suite runs against moto with test/cloudlab/moto. By the double
// instead of moto: client tokens, placement groups, capacity reservations, and
// that a machine with several interfaces has no public address at first. Not
// checked there, but by tests of the requests: network interfaces of EFA and
// capacity blocks. Nothing
// checks yet: service quotas and the Pricing API against real answers.
package aws
