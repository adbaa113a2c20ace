"""Workers over one folder: cuts, numbers of workers, restarts and replays change no bit of what is believed."""
