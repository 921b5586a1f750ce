"""Four sample services to try the gateway with: `auth` registers people and issues tokens, `resources` has the devices,
rules and livestreams. `flask demo` runs them. All data is in memory."""

# E-mail address and password of the person who is registered from the start.
ADA = ("ada@example.com", "lovelace")
