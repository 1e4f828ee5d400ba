"""Networks, losses and methods, in torch alone: no path, no projection and no print in here."""
