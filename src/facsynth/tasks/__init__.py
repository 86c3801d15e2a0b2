"""What a data set is for, measured: train on it, evaluate, and compare with controls.

Each task is a folder with the same parts; a fifth one would be another folder, with its command in
`facsynth/cli/task/`:

- `settings`: its settings, with the paper's values as defaults, from which options are made;
- `data`: the rows that it reads;
- `train`: a function that writes a task folder (`facsynth.tasks.folder`);
- `evaluate`: a function that reads such a folder and returns a result
  (`facsynth.tasks.results.TaskResult`).

What tasks share is beside the folders. These four modules load no torch, so that a user's error is
found before it is loaded; `train` and `evaluate` import what needs it after their checks.
"""
