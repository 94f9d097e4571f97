"""Configurations as MMSegmentation 1.x and 0.x (VOC_0X, SWIN_ON_CITYSCAPES) has them, shortened."""

SCHEDULE = """
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
default_hooks = dict(logger=dict(type='LoggerHook', interval=25, log_metric_by_epoch=False))
"""
PIPELINE = """
crop_size = (512, 512)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=REDUCE),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]
"""
ADE20K = """
dataset_type = 'ADE20KDataset'
data_root = 'data/ade'
train_dataloader = dict(
    batch_size=4, num_workers=4, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type=dataset_type, data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'), pipeline=[]))
test_dataloader = val_dataloader
"""
SEGFORMER = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='MixVisionTransformer', embed_dims=32, num_layers=[2, 2, 2, 2], drop_path_rate=0.1),
    decode_head=dict(
        type='SegformerHead', in_channels=[32, 64, 160, 256], channels=256, dropout_ratio=0.1, num_classes=19,
        norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    test_cfg=dict(mode='whole'))
"""
B2_ON_ADE20K = """
_base_ = ['base/segformer.py', 'base/ade20k.py', 'base/schedule.py']
checkpoint = 'https://example.org/mit_b2.pth'
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint), embed_dims=64, num_layers=[3, 4, 6, 3]),
    decode_head=dict(in_channels=[64, 128, 320, 512], num_classes=150))
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.00006, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={
        'pos_block': dict(decay_mult=0.), 'norm': dict(decay_mult=0.), 'head': dict(lr_mult=10.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False)]
train_cfg = dict(max_iters=160 * 1000)
train_dataloader = dict(batch_size=2)
"""
VOC_0X = """
model = dict(
    type='EncoderDecoder', pretrained='open-mmlab://resnet50_v1c',
    backbone=dict(type='ResNetV1c', depth=50, dilations=(1, 1, 2, 4)),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead', num_classes=21,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    auxiliary_head=dict(type='FCNHead', in_index=2, channels=256))
data_root = 'data/VOCdevkit/VOC2012'
data = dict(
    samples_per_gpu=4, workers_per_gpu=4,
    train=dict(
        type='PascalVOCDataset', data_root=data_root, img_dir='JPEGImages',
        ann_dir=['SegmentationClass', 'SegmentationClassAug'],
        split=['ImageSets/Segmentation/train.txt', 'ImageSets/Segmentation/aug.txt'],
        pipeline=[
            dict(type='Resize', img_scale=(2048, 512), ratio_range=(0.5, 2.0)),
            dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomCutOut', prob=0.5, n_holes=1)]),
    val=dict(type='PascalVOCDataset', data_root=data_root, img_dir='JPEGImages', ann_dir='SegmentationClass',
             split='ImageSets/Segmentation/val.txt'))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005)
optimizer_config = dict()
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False, warmup='linear', warmup_iters=500,
                 warmup_ratio=0.5)
runner = dict(type='IterBasedRunner', max_iters=20000)
evaluation = dict(interval=2000, metric='mIoU')
"""
SWIN_ON_CITYSCAPES = """
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='SwinTransformer', embed_dims=96, depths=[2, 2, 18, 2], drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='swin.pth')),
    decode_head=dict(
        type='UPerHead', num_classes=19, sampler=dict(type='OHEMPixelSampler', thresh=0.6, min_kept=50000),
        loss_decode=[dict(type='CrossEntropyLoss'), dict(type='LovaszLoss', loss_weight=0.5)]),
    test_cfg=dict(mode='slide', crop_size=(512, 1024), stride=(341, 683)))
crop_size = (512, 1024)
data = dict(
    samples_per_gpu=2,
    train=dict(
        type='RepeatDataset', times=500,
        dataset=dict(
            type='CityscapesDataset', data_root='data/cityscapes/', img_dir='leftImg8bit/train',
            ann_dir='gtFine/train',
            pipeline=[
                dict(type='Resize', img_scale=(2048, 1024), ratio_range=(0.5, 2.0)),
                dict(type='RandomCrop', crop_size=crop_size),
                dict(type='RandomFlip', prob=0.5)])),
    val=dict(type='CityscapesDataset', data_root='data/cityscapes/', img_dir='leftImg8bit/val',
             ann_dir='gtFine/val'))
optimizer = dict(type='AdamW', lr=6e-5, weight_decay=0.01)
lr_config = dict(policy='step', step=[8, 11], by_epoch=True)
runner = dict(type='EpochBasedRunner', max_epochs=12)
"""
CUSTOM = """
model = dict(
    backbone=dict(type='ResNet', depth=18),
    decode_head=dict(type='FPNHead', num_classes=2, loss_decode=LOSS))
train_dataloader = dict(batch_size=4, dataset=dict(
    type='BaseSegDataset', data_root='mine', metainfo=dict(classes=('ground', 'road')),
    reduce_zero_label=True, img_suffix='.jpg', seg_map_suffix='_mask.png',
    data_prefix=dict(img_path='pictures/train', seg_map_path='drawn/train')))
val_dataloader = dict(dataset=dict(
    type='BaseSegDataset', data_root='mine',
    data_prefix=dict(img_path='pictures/val', seg_map_path='drawn/val')))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=2)
randomness = dict(seed=7)
custom_hooks = [dict(type='EMAHook', momentum=0.01)]
"""
AUXILIARY = """
model = dict(
    backbone=BACKBONE,
    decode_head=dict(
        type='FPNHead', num_classes=3, loss_decode=dict(type='CrossEntropyLoss', loss_weight=2.0)),
    auxiliary_head=dict(
        type='FCNHead', in_channels=256, in_index=2, channels=64, num_convs=1, concat_input=False,
        dropout_ratio=0.1, num_classes=3, norm_cfg=dict(type='SyncBN'), align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.8)))
train_pipeline = [dict(type='RandomCrop', crop_size=(769, 769))]
train_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root='mine', pipeline=train_pipeline))
"""
