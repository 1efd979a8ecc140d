"""Two digits on top of each other: MultiMNIST, section 6 of Sabour, Frosst, Hinton 2017."""
